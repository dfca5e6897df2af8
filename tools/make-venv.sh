#!/bin/sh
# make-venv.sh FOLDER REQUIREMENT...: makes a virtual environment and installs the requirements with pip.
# "--group NAME" installs a dependency group of pyproject.toml. Says what is missing on a bare machine.
set -u
folder=$1
shift
python=$("$(dirname "$0")/find-python.sh") || exit 1

if ! command -v "${CXX:-c++}" >/dev/null 2>&1 && ! command -v g++ >/dev/null 2>&1; then
    echo "mrlstore needs a C++ compiler once, to build hnswlib, and found neither c++ nor g++." >&2
    echo "Install one (Debian, Ubuntu: apt-get install g++; macOS: xcode-select --install)." >&2
    exit 1
fi

echo "Making $folder with $python; the first time takes a minute or two."
rm -rf "$folder"
"$python" -m venv "$folder" || exit 1
"$folder/bin/python" -m pip install --quiet --disable-pip-version-check --upgrade "pip>=25.1" || exit 1
if ! "$folder/bin/python" -m pip install --quiet --disable-pip-version-check "$@"; then
    if ! "$python" -c 'import os, sys, sysconfig
sys.exit(not os.path.exists(os.path.join(sysconfig.get_paths()["include"], "Python.h")))'; then
        echo "$python has no C headers (Python.h), which building hnswlib needs." >&2
        echo "Install them (Debian, Ubuntu: apt-get install python3-dev), or name another Python:" >&2
        echo "make PYTHON=/path/to/python3.12 ..." >&2
    else
        echo "The packages could not be installed; pip says why above." >&2
    fi
    exit 1
fi
