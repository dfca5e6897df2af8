"""How results look: consoles, figures for people, JSON for scripts, progress bars on a terminal."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from mrlstore import types

Report = Callable[[types.Progress], None]


class _Pipe(Console):
    """A console whose closed pipe is left to `app.run`, like that of every other output."""

    def on_broken_pipe(self) -> None:
        raise BrokenPipeError


def console() -> Console:
    """The console for results: stdout, without markup, so that data cannot be taken for styling."""
    return _Pipe(file=sys.stdout, markup=False, highlight=False, soft_wrap=False)


def errors() -> Console:
    """The console for progress and remarks: stderr."""
    return Console(file=sys.stderr, markup=False, highlight=False)


def print_json(value: Any) -> None:
    """One JSON value and a line end, to stdout; arrays become lists."""
    json.dump(value, sys.stdout, ensure_ascii=False, default=_plain)
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
def progress_bars(*, as_json: bool) -> Iterator[Report | None]:
    """A `progress=` callback that draws one bar for each phase; None where nobody looks."""
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
