"""What the library says to programs, said to people at a command line: calls as commands, warnings once."""

from __future__ import annotations

import logging
import re
import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from mrlstore.cli.safe_text import safe_line
from mrlstore.system.log import LOGGER

_CALLS: Final = re.compile(r"\b(verify|repair|optimize|calibrate)\(\)")
# What a program writes, and what says the same at the command line.
_ARGUMENTS: Final = (
    (re.compile(r'extra="metadata"'), "--extra metadata"),
    (re.compile(r"omit=\['([^']*)'\]"), r"--omit \1"),
    (re.compile(r"""names=\{"(\w+)": ["']([^"']*)["']\}"""), r"--name \1=\2"),
    (re.compile(r"id_as_text=True"), "--id-as-text"),
    (re.compile(r"overwrite=True"), "--force"),
    (re.compile(r'format="\.\.\."'), "--format ..."),
    (re.compile(r'vectors="\.\.\."'), "--vectors FILE.npy"),
    (re.compile(r"open it with prefix_dim="), "`mrlstore create --prefix-dim` makes one"),
    (re.compile(r"mrlstore\.cluster\.create makes one"), "`mrlstore cluster create` makes one"),
)
# Events whose words a command prints itself, or as a Python warning.
_PRINTED: Final = {"damaged", "verified", "repaired", "recall differs"}


def in_commands(text: str, store: object) -> str:
    """A text in which calls of methods, such as repair(), and arguments are what a command line says."""
    place = shlex.quote(str(store))
    for pattern, option in _ARGUMENTS:
        text = pattern.sub(option, text)
    return _CALLS.sub(lambda call: f"mrlstore {call[1]} {place}", text)


def store_named_by(arguments: list[str]) -> str:
    """The store of a command line, for words about it: what follows the command."""
    words = 2 if arguments[:1] == ["cluster"] else 1  # `cluster` is followed by a command of its own
    rest = [argument for argument in arguments[words:] if not argument.startswith("-")]
    return rest[0] if rest else "STORE"


def print_warning(text: str, store: object) -> None:
    """Print a warning in one line, to stderr."""
    print(f"mrlstore: warning: {safe_line(in_commands(text, store))}", file=sys.stderr)


class _Printer(logging.Handler):
    """Prints warnings that are logged, but for those that are printed elsewhere."""

    def __init__(self, store: str) -> None:
        super().__init__(logging.WARNING)
        self.store = store

    def emit(self, record: logging.LogRecord) -> None:
        """Print one record."""
        if getattr(record, "event", None) not in _PRINTED:
            print_warning(record.getMessage(), self.store)


@contextmanager
def logged_warnings_printed(store: str) -> Iterator[None]:
    """Print what is logged as a warning, unless the program has set up logging by itself."""
    if LOGGER.hasHandlers():
        yield
        return
    handler = _Printer(store)
    LOGGER.addHandler(handler)
    try:
        yield
    finally:
        LOGGER.removeHandler(handler)
