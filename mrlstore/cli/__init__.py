"""The command line. `main` answers `--version` without any extra; the commands need the extra `cli`."""

from __future__ import annotations

import sys
from importlib.util import find_spec

from mrlstore.version import __version__


def main(arguments: list[str] | None = None) -> int:
    """Run one command line, those of the process by default; returns the exit code."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if arguments in (["--version"], ["-V"]):
        print(f"mrlstore {__version__}")
        return 0
    if any(find_spec(name) is None for name in ("click", "rich")):
        print("mrlstore: the command line needs click and rich: pip install 'mrlstore[cli]'", file=sys.stderr)
        return 1
    from mrlstore.cli.app import run

    return run(arguments)
