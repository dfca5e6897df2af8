#!/bin/sh
# make-venv.sh FOLDER REQUIREMENT...: makes a virtual environment and installs the requirements with pip.
# "--group NAME" installs a dependency group of pyproject.toml. Says what is missing on a bare machine.
set -u
folder=$1
shift
python=$("$(dirname "$0")/find-python.sh") || exit 1

echo "Making $folder with $python; the first time takes a minute or two."
rm -rf "$folder"
"$python" -m venv "$folder" || exit 1
"$folder/bin/python" -m pip install --quiet --disable-pip-version-check --upgrade "pip>=25.1" || exit 1
if ! "$folder/bin/python" -m pip install --quiet --disable-pip-version-check "$@"; then
    echo "The packages could not be installed; pip says why above." >&2
    exit 1
fi
