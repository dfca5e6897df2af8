#!/bin/sh
# try-install.sh FOLDER NAME REQUIREMENT...: installs what has to be compiled into a virtual environment, or says
# in one line that NAME could not be, and leaves the environment as it is. Fails only where MRLSTORE_COMPILE_ALL
# is set, as in continuous integration, which has a compiler.
folder=$1 name=$2
shift 2
log=$folder/try-install.log
if "$folder/bin/python" -m pip install --quiet --disable-pip-version-check "$@" >"$log" 2>&1; then
    rm -f "$log"
else
    echo "$name could not be compiled: its tests are skipped; $log says why (most likely: no C++ compiler)."
    [ -z "${MRLSTORE_COMPILE_ALL:-}" ] || { cat "$log"; exit 1; }
fi
