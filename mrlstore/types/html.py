"""Tables as HTML, for notebooks: every text is escaped."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

_LONGEST = 200  # characters of a cell


def table(title: str, heads: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A table with a caption; long texts are cut, and numbers stand to the right."""
    lines = ["".join(f"<th>{_text(head)}</th>" for head in heads)]
    lines += ["".join(map(_cell, row)) for row in rows]
    body = "".join(f"<tr>{line}</tr>" for line in lines if line)
    return f"<table><caption>{_text(title)}</caption>{body}</table>"


def _cell(value: object) -> str:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return f'<td style="text-align:left">{_text("" if value is None else str(value))}</td>'
    number = f"{value:,}" if isinstance(value, int) else f"{value:.4g}"
    return f'<td style="text-align:right">{number}</td>'


def _text(text: str) -> str:
    from html import escape  # takes a millisecond to import, which only notebooks need

    return escape(text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…")
