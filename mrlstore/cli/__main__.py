"""Lets `python -m mrlstore.cli` run where the script `mrlstore` is not on the path."""

import sys

from mrlstore.cli import main

if __name__ == "__main__":
    sys.exit(main())
