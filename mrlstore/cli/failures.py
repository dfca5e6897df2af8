"""Failures as one line on stderr and an exit code. The codes are part of the interface."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Final

import click

from mrlstore import errors
from mrlstore.cli.remarks import in_commands
from mrlstore.cli.safe_text import safe_line

DONE: Final = 0
FAILED: Final = 1
REFUSED: Final = 2
ABSENT: Final = 3
IN_THE_WAY: Final = 4
DAMAGED: Final = 5
PARTLY: Final = 6
INTERRUPTED: Final = 130

EXIT_CODES: Final = """\
\b
Exit codes:
  0  done
  1  something failed: the disk, the system, an embedder
  2  the command line or the input was refused
  3  not found: the store, or an id that you named
  4  in the way: it exists already, or another process is using it
  5  damaged: verify found problems, or the store cannot be read
  6  some rows were refused or not embedded; all others are stored
"""


class NotThere(click.ClickException):
    """An id that was asked for is not in the store."""


_CODE_OF: Final[tuple[tuple[type[BaseException], int], ...]] = (
    (errors.InvalidInput, REFUSED),
    (errors.StoreNotFound, ABSENT),
    (errors.StoreExists, IN_THE_WAY),
    (errors.StoreLocked, IN_THE_WAY),
    (errors.CorruptStore, DAMAGED),
    (errors.FormatTooNew, DAMAGED),
    (NotThere, ABSENT),
    (click.ClickException, REFUSED),
    (click.Abort, INTERRUPTED),
    (KeyboardInterrupt, INTERRUPTED),
    (errors.MrlStoreError, FAILED),
    (OSError, FAILED),
    (ImportError, FAILED),
)

EXPECTED: Final = tuple(kind for kind, _ in _CODE_OF)


def report(error: BaseException, store: str, *, as_json: bool) -> int:
    """Print on stderr, in one line, what went wrong; returns the exit code."""
    code = next(code for kind, code in _CODE_OF if isinstance(error, kind))
    message = in_commands(_message(error), store)
    if as_json:
        said = {"error": type(error).__name__, "message": message, "exit_code": code}
        print(json.dumps(said), file=sys.stderr)
    else:
        print(f"mrlstore: {safe_line(message)}", file=sys.stderr)
    return code


def _of_the_system(said: str, name: object) -> str:
    """What the system said, with the file that it is about, but without a number such as "[Errno 13]"."""
    said = " ".join(said.split())
    if name is None:
        return said
    path = Path(str(name))
    if path.suffix == ".partial":
        path = path.parent  # of a temporary file only the folder means something to people
    folder = str(path.parent)
    return said if folder != "." and folder in said else f"{path}: {said[0].lower()}{said[1:]}"


def _message(error: BaseException) -> str:
    if isinstance(error, click.UsageError):
        where = error.ctx.command_path if error.ctx else "mrlstore"
        return f"{error.format_message()} (see {where} --help)"
    if isinstance(error, click.ClickException):
        return error.format_message()
    if isinstance(error, click.Abort | KeyboardInterrupt):
        return "interrupted"
    if isinstance(error, OSError) and error.strerror:
        return _of_the_system(error.strerror, error.filename)
    return " ".join(str(error).split()) or type(error).__name__
