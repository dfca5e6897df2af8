"""How results look: consoles, figures for people, JSON for scripts, progress bars on a terminal.

Ids, documents and metadata may hold control characters, which a terminal takes for commands: all text that
goes to a console is printed with them escaped.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from rich.console import Console, ConsoleOptions, RenderableType
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn
from rich.segment import Segment
from rich.table import Table

from mrlstore import types

ProgressCallback = Callable[[types.Progress], None]

# C0 controls but tab and line feed, DEL, and the C1 controls: U+009B begins an escape sequence as ESC [ does.
_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
_LATE_CONTROLS = re.compile(r"[\x7f-\x9f]")  # JSON itself escapes those below the space

# The signs of our own output, for terminals and pipes that are not UTF-8.
_ASCII = str.maketrans({"✓": "ok:", "✗": "not ok:", "→": "->", "█": "#", "░": ".", "…": "...", "·": "-"})


def safe_text(text: str) -> str:
    """A text with its control characters escaped, but for tabs and line ends."""
    return _CONTROLS.sub(lambda found: f"\\x{ord(found[0]):02x}", text)


def safe_line(text: str) -> str:
    """The same in one line: an id may hold line ends, and what follows would look like another result."""
    return safe_text(text).replace("\t", "\\t").replace("\n", "\\n")


class _SafeConsole(Console):
    """A console that prints no control characters of the data, and only what its encoding can hold.

    A closed pipe is left to `app.run`, like that of every other output.
    """

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """The segments of what is printed; styles become escape sequences only after this."""
        narrow = not self.encoding.lower().startswith("utf")
        for segment in super().render(renderable, options):
            if segment.control:
                yield segment
                continue
            text = safe_text(segment.text)
            yield Segment(text.translate(_ASCII) if narrow else text, segment.style)

    def on_broken_pipe(self) -> None:
        raise BrokenPipeError


def console() -> Console:
    """The console for results: stdout, without markup, so that data cannot be taken for styling."""
    return _SafeConsole(file=sys.stdout, markup=False, highlight=False, soft_wrap=False)


def errors() -> Console:
    """The console for progress and remarks: stderr."""
    return _SafeConsole(file=sys.stderr, markup=False, highlight=False)


def escape_what_cannot_be_encoded() -> None:
    """Let stdout and stderr write what their encoding does not have as an escape, instead of failing."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


def print_json(value: Any) -> None:
    """One JSON value and a line end, to stdout; arrays become lists."""
    ascii_only = not (sys.stdout.encoding or "utf-8").lower().startswith("utf")
    for part in json.JSONEncoder(ensure_ascii=ascii_only, default=_plain).iterencode(value):
        sys.stdout.write(_LATE_CONTROLS.sub(lambda found: f"\\u{ord(found[0]):04x}", part))
    sys.stdout.write("\n")


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
    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim", no_wrap=True)
    table.add_column()
    return table


@contextmanager
def progress_bars(*, as_json: bool) -> Iterator[ProgressCallback | None]:
    """A `progress=` callback that draws one bar for each phase; None without a terminal, or with --json."""
    target = errors()
    if as_json or not target.is_terminal:
        yield None
        return
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeElapsedColumn())
    with Progress(*columns, console=target, transient=True) as bars:
        tasks: dict[str, Any] = {}

        def report(step: types.Progress) -> None:
            if step.phase not in tasks:
                tasks[step.phase] = bars.add_task(step.phase, total=step.total)
            bars.update(tasks[step.phase], completed=step.done, total=step.total)

        yield report
