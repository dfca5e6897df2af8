"""The command `duplicates`: groups of rows whose vectors are nearly equal."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

import mrlstore
from mrlstore.cli import output
from mrlstore.cli.options import json_option, namespace_option, store_argument, where_option
from mrlstore.cli.output import count_text, plain_row, print_line
from mrlstore.cli.safe_text import safe_line
from mrlstore.types import DuplicateGroup, Hit, Record

_SHOWN = 5  # duplicates of a group that are printed without --json


@click.command()
@store_argument
@click.option(
    "--above",
    default=0.98,
    show_default=True,
    type=float,
    metavar="COSINE",
    help="The lowest cosine similarity with the row that represents a group, up to 1.",
)
@where_option
@namespace_option
@click.option("--all", "everywhere", is_flag=True, help="In all namespaces, and across them.")
@click.option("--limit", type=click.IntRange(min=1), metavar="N", help="At most so many groups.")
@json_option
def duplicates(
    store: Path,
    above: float,
    where: dict[str, Any] | None,
    namespace: str,
    everywhere: bool,
    limit: int | None,
    as_json: bool,
) -> None:
    """Find groups of rows whose vectors are nearly equal.

    Such rows are boilerplate, reprints or versions of a text. Each group is printed as soon as it is found:
    first the row that represents it (the first by id), then its duplicates, the most similar first. Nothing
    is deleted.

    \b
    Examples:
      mrlstore duplicates papers.mrl
      mrlstore duplicates papers.mrl --above 0.995 --where '{"lang": "de"}'
      mrlstore duplicates papers.mrl --all --limit 100 --json
    """  # fmt: skip
    groups = rows = 0
    with (
        mrlstore.open(store, mode="r") as opened,
        output.progress_bars(as_json=as_json or sys.stdout.isatty()) as progress,
    ):
        found = opened.duplicates(
            above,
            where=where,
            namespace=None if everywhere else namespace,
            limit=limit,
            progress=progress,
        )
        if as_json:
            output.print_json_list("groups", map(_plain, found))
            return
        for group in found:
            _print_group(group)
            groups, rows = groups + 1, rows + len(group.duplicates)
    if groups:
        repeated = count_text(rows, "duplicate")
        print_line(f"{count_text(groups, 'group')} with {repeated}", file=sys.stderr)
    else:
        print_line(f"no two rows have a cosine similarity of {above:g} or more", file=sys.stderr)


def _plain(group: DuplicateGroup) -> dict[str, Any]:
    return {
        "representative": plain_row(group.representative),
        "duplicates": [plain_row(hit) for hit in group.duplicates],
    }


def _print_group(group: DuplicateGroup) -> None:
    print_line((safe_line(_name(group.representative)), "bold"), *_text(group.representative), clip=True)
    for hit in group.duplicates[:_SHOWN]:
        print_line((f"  {hit.score:.4f}", "dim"), "  ", safe_line(_name(hit)), *_text(hit), clip=True)
    if len(group.duplicates) > _SHOWN:
        print_line((f"  and {len(group.duplicates) - _SHOWN:,} more", "dim"))


def _name(row: Record | Hit) -> str:
    return f"{row.namespace}/{row.id}" if row.namespace else row.id


def _text(row: Record | Hit) -> Iterator[str | tuple[str, str]]:
    """The beginning of the document, where the row has one."""
    if row.document:
        yield "  "
        yield (safe_line(row.document[:200]), "dim")
