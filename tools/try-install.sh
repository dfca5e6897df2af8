#!/bin/sh
# try-install.sh FOLDER REQUIREMENT...: installs what has to be compiled into a virtual environment, or says in
# one line that it could not, and leaves the environment as it is. Fails only where MRLSTORE_COMPILE_ALL is set,
# as in continuous integration, which has a compiler.
folder=$1
shift
log=$folder/try-install.log
if "$folder/bin/python" -m pip install --quiet --disable-pip-version-check "$@" >"$log" 2>&1; then
    rm -f "$log"
else
    echo "Could not be compiled, and is left out: $*. Its tests are skipped; $log says why."
    [ -z "${MRLSTORE_COMPILE_ALL:-}" ] || { cat "$log"; exit 1; }
fi
