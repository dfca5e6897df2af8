"""The commands that give an impression of a store's rows: facets, sample."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import click

import mrlstore
from mrlstore.cli.options import json_option, namespace_option, store_argument, where_option
from mrlstore.cli.output import plain_row, print_json, print_line
from mrlstore.cli.read import print_record
from mrlstore.cli.safe_text import safe_line
from mrlstore.types import Include


@click.command()
@store_argument
@click.argument("field")
@where_option
@namespace_option
@click.option("--all", "everywhere", is_flag=True, help="In all namespaces.")
@click.option(
    "--limit", default=20, show_default=True, type=click.IntRange(min=1), help="At most so many values."
)
@json_option
def facets(
    store: Path,
    field: str,
    where: dict[str, Any] | None,
    namespace: str,
    everywhere: bool,
    limit: int,
    as_json: bool,
) -> None:
    """Count the values of a metadata FIELD, most frequent first.

    \b
    Examples:
      mrlstore facets papers.mrl lang
      mrlstore facets papers.mrl authors.country --where '{"year": {"$gte": 2020}}' --json
    """
    with mrlstore.open(store, mode="r") as opened:
        found = opened.facets(
            field, where=where, namespace=None if everywhere else namespace, limit=limit + 1
        )
    more = len(found) > limit
    if as_json:
        values = [{"value": facet.value, "count": facet.count} for facet in found[:limit]]
        print_json({"values": values, "more": more})
        return
    if not found:
        print_line(f"no row has a value for {safe_line(field)}", file=sys.stderr)
    width = max((len(f"{facet.count:,}") for facet in found), default=0)
    for facet in found[:limit]:
        value = facet.value if isinstance(facet.value, str) else json.dumps(facet.value)
        print_line((f"{facet.count:{width},}", "dim"), "  ", safe_line(value))
    if more:
        print_line("there are more values; see --limit", file=sys.stderr)


@click.command()
@store_argument
@click.argument("n", default=5, type=click.IntRange(min=0))
@where_option
@namespace_option
@click.option("--all", "everywhere", is_flag=True, help="From all namespaces.")
@click.option("--seed", type=int, metavar="N", help="A number that gives the same rows again.")
@click.option("--vector", "with_vector", is_flag=True, help="Show the vectors too.")
@json_option
def sample(
    store: Path,
    n: int,
    where: dict[str, Any] | None,
    namespace: str,
    everywhere: bool,
    seed: int | None,
    with_vector: bool,
    as_json: bool,
) -> None:
    """Show N rows chosen by chance, 5 by default.

    \b
    Examples:
      mrlstore sample papers.mrl
      mrlstore sample papers.mrl 100 --where '{"lang": "de"}' --seed 1 --json
    """
    include: tuple[Include, ...] = ("metadata", "document", *(("vector",) if with_vector else ()))
    with mrlstore.open(store, mode="r") as opened:
        space = None if everywhere else namespace
        records = opened.sample(n, where=where, namespace=space, seed=seed, include=include)
    if as_json:
        print_json({"rows": [plain_row(record) for record in records]})
        return
    for record in records:
        print_record(record)
    if not records and n:
        print_line("no rows", file=sys.stderr)
