"""How results look: consoles, figures for people, JSON for scripts, progress bars on a terminal.

Ids, documents and metadata may hold control characters, which a terminal takes for commands: all text that
goes to a console is printed with them escaped. Rich is imported where tables, panels or progress bars are
drawn; lines are printed without it, because its import takes 0.06 s of processor time.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
import unicodedata
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING, Any, Final

import numpy as np

from mrlstore import types
from mrlstore.cli.safe_text import in_encoding, safe_text

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

ProgressCallback = Callable[[types.Progress], None]

_LATE_CONTROLS = re.compile(r"[\x7f-\x9f]")  # JSON itself escapes those below the space

Styled = tuple[str, str]  # a text, and the name of its style
_STYLES: Final = {"bold": "\x1b[1m", "dim": "\x1b[2m", "cyan": "\x1b[36m"}


def console() -> Console:
    """The console for results: stdout, without markup, so that data cannot be taken for styling."""
    from mrlstore.cli.safe_console import SafeConsole

    return SafeConsole(file=sys.stdout, markup=False, highlight=False, soft_wrap=False)


def errors() -> Console:
    """The console for progress and remarks: stderr."""
    from mrlstore.cli.safe_console import SafeConsole

    return SafeConsole(file=sys.stderr, markup=False, highlight=False)


def print_line(*parts: str | Styled, file: IO[str] | None = None, clip: bool = False) -> None:
    """Print one line, to stdout by default, without rich.

    Args:
        parts: plain texts, and pairs of a text and its style, "bold", "dim" or "cyan"; styles are shown on a
            terminal.
        file: where to print.
        clip: cut the line off at the width of the terminal (COLUMNS, or 80 where there is no terminal).
    """
    out = sys.stdout if file is None else file
    encoding = getattr(out, "encoding", None) or "utf-8"
    left = shutil.get_terminal_size().columns - 1 if clip else sys.maxsize  # one for the ellipsis
    line = ""
    for part in parts:
        text, style = (part, None) if isinstance(part, str) else part
        text = in_encoding(safe_text(text), encoding)
        kept, left = _clipped(text, left)
        line += f"{_STYLES[style]}{kept}\x1b[0m" if style and _has_styles(out) else kept
        if len(kept) < len(text):
            line += in_encoding("…", encoding)
            break
    print(line, file=out)


def _clipped(text: str, columns: int) -> tuple[str, int]:
    """As much of a text as fits into so many columns, and how many are left."""
    used = 0
    for place, letter in enumerate(text):
        width = 2 if unicodedata.east_asian_width(letter) in "WF" else 1
        if used + width > columns:
            return text[:place], 0
        used += width
    return text, columns - used


def _has_styles(out: IO[str]) -> bool:
    return out.isatty() and "NO_COLOR" not in os.environ and os.environ.get("TERM") not in ("dumb", "unknown")


def escape_what_cannot_be_encoded() -> None:
    """Let stdout and stderr write what their encoding does not have as an escape, instead of failing."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


def print_json(value: Any) -> None:
    """One JSON value and a line end, to stdout; arrays become lists."""
    _write_json(value)
    sys.stdout.write("\n")


def print_json_list(name: str, values: Iterable[Any]) -> None:
    """`{"name": [...]}` as `print_json` would write it, each value when it is there."""
    sys.stdout.write("{")
    _write_json(name)
    sys.stdout.write(": [")
    for number, value in enumerate(values):
        sys.stdout.write(", " if number else "")
        _write_json(value)
    sys.stdout.write("]}\n")


def _write_json(value: Any) -> None:
    ascii_only = not (sys.stdout.encoding or "utf-8").lower().startswith("utf")
    for part in json.JSONEncoder(ensure_ascii=ascii_only, default=_plain).iterencode(value):
        sys.stdout.write(_LATE_CONTROLS.sub(lambda found: f"\\u{ord(found[0]):04x}", part))


def plain_row(row: Any) -> dict[str, Any]:
    """A hit or record as a dict; fields that were not included are left out."""
    names = ("id", "namespace", "score", "metadata", "document", "vector")
    values = {name: getattr(row, name, None) for name in names}
    return {name: value for name, value in values.items() if value is not None}


def _plain(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, tuple | set | frozenset):
        return list(value)
    raise TypeError(f"no JSON for {type(value).__name__}")


def bytes_text(count: float) -> str:
    """A number of bytes as people read it, in powers of 1,000."""
    for unit in ("B", "KB", "MB", "GB"):
        if abs(count) < 1000:
            return f"{count:,.0f} {unit}" if unit == "B" or count >= 100 else f"{count:,.1f} {unit}"
        count /= 1000
    return f"{count:,.1f} TB"


def count_text(count: int, one: str, many: str | None = None) -> str:
    """A number with its noun: "1 row", "2,000 rows"."""
    return f"{count:,} {one if count == 1 else many or one + 's'}"


def share_bar(share: float, width: int = 24) -> str:
    """A bar of text that is filled by a share from 0 to 1."""
    filled = round(min(max(share, 0.0), 1.0) * width)
    return "█" * filled + "░" * (width - filled)


def facts_table() -> Table:
    """A table without lines for pairs of a name and a value."""
    from rich.table import Table

    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim", no_wrap=True)
    table.add_column()
    return table


@contextmanager
def progress_bars(*, as_json: bool) -> Iterator[ProgressCallback | None]:
    """A `progress=` callback that draws one bar for each phase; None without a terminal, or with --json."""
    if as_json or not sys.stderr.isatty():
        yield None
        return
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

    target = errors()
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeElapsedColumn())
    with Progress(*columns, console=target, transient=True) as bars:
        tasks: dict[str, Any] = {}

        def report(step: types.Progress) -> None:
            if step.phase not in tasks:
                tasks[step.phase] = bars.add_task(step.phase, total=step.total)
            bars.update(tasks[step.phase], completed=step.done, total=step.total)

        yield report
