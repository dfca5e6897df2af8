"""The command line. `main` answers `--version` without any extra; the commands need the extra `cli`."""

from __future__ import annotations

import sys

from mrlstore.version import __version__


def main(arguments: list[str] | None = None) -> int:
    """Run one command line, those of the process by default; returns the exit code."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if arguments in (["--version"], ["-V"]):
        print(f"mrlstore {__version__}")
        return 0
    try:
        import click  # noqa: F401
        import rich  # noqa: F401
    except ImportError:
        print("mrlstore: the command line needs click and rich: pip install 'mrlstore[cli]'", file=sys.stderr)
        return 1
    from mrlstore.cli.app import run

    return run(arguments)
