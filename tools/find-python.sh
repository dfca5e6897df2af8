#!/bin/sh
# Prints the path of a Python >= 3.11 that really runs and has venv. PYTHON=/path/to/python chooses one.
# Says what is missing, and exits with 1, when there is none.
# A command that merely exists proves nothing: version managers leave shims that fail when run.

check='
import sys
if sys.version_info < (3, 11):
    sys.exit("%s is Python %d.%d; 3.11 or newer is needed" % ((sys.executable,) + sys.version_info[:2]))
try:
    import ensurepip, venv
except ImportError:
    sys.exit("%s cannot make virtual environments; install its venv module "
             "(Debian, Ubuntu: apt-get install python%d.%d-venv)" % ((sys.executable,) + sys.version_info[:2]))
print(sys.executable)
'

complaints=""
for name in ${PYTHON:-python3.13 python3.12 python3.11 python3 python}; do
    command -v "$name" >/dev/null 2>&1 || continue
    if answer=$("$name" -c "$check" 2>&1); then
        echo "$answer"
        exit 0
    fi
    complaints="$complaints
  $answer"
done
echo "mrlstore needs Python 3.11 or newer, and found none that runs.${complaints:+ Tried:$complaints}" >&2
echo "Install one, or name it: make PYTHON=/path/to/python3.12 ..." >&2
exit 1
