"""The commands that read rows: get, scan, count."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import click

import mrlstore
from mrlstore.cli import failures, output
from mrlstore.cli.options import json_option, namespace_option, store_argument, where_option
from mrlstore.cli.output import plain_row, print_line
from mrlstore.cli.safe_text import safe_line
from mrlstore.types import Include, Record


@click.command()
@store_argument
@click.argument("ids", nargs=-1)
@where_option
@click.option("--limit", type=click.IntRange(min=0), metavar="N", help="At most so many.")
@namespace_option
@click.option("--vector", "with_vector", is_flag=True, help="Show the vectors too.")
@json_option
def get(
    store: Path,
    ids: tuple[str, ...],
    where: dict[str, Any] | None,
    limit: int | None,
    namespace: str,
    with_vector: bool,
    as_json: bool,
) -> int:
    """Show rows by their ids, or by a filter. Exit code 3 says that some of the ids are not there.

    \b
    Examples:
      mrlstore get papers.mrl paper-17 paper-18
      mrlstore get papers.mrl paper-17 --vector --json
      mrlstore get papers.mrl --where '{"lang": "de"}' --limit 5
    """
    if not ids and not where and limit is None:
        raise click.UsageError("give IDS, a --where that is not empty, or a --limit")
    with mrlstore.open(store, mode="r") as opened:
        include: tuple[Include, ...] = ("metadata", "document")
        if with_vector:
            include += ("vector",)
        records = opened.get(ids or None, where=where, limit=limit, namespace=namespace, include=include)
        there = {record.id for record in opened.get(ids, namespace=namespace, include=())}
    missing = [row_id for row_id in ids if row_id not in there]
    if as_json:
        output.print_json({"rows": [plain_row(record) for record in records], "missing": missing})
    else:
        for record in records:
            print_record(record)
        if missing:
            print_line(f"mrlstore: no row has the id {', '.join(missing)}", file=sys.stderr)
    return failures.ABSENT if missing else failures.DONE


def print_record(record: Record) -> None:
    """A record for people: id, metadata, the beginning of the vector, document."""
    print_line((safe_line(record.id), "bold"))
    metadata = (record.metadata or {}).items()
    facts = {
        safe_line(key): value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        for key, value in metadata
    }
    if record.vector is not None:
        head = ", ".join(f"{number:.4g}" for number in record.vector[:6])
        facts["vector"] = f"[{head}, …] {len(record.vector):,} dims"
    width = max(map(len, facts), default=0)
    for name, value in facts.items():
        print_line((f"{name:{width}}", "dim"), "  ", value)
    if record.document:
        print_line(record.document)
    print_line()


@click.command()
@store_argument
@where_option
@namespace_option
@click.option("--all", "everywhere", is_flag=True, help="In all namespaces.")
@click.option("--prefix", metavar="TEXT", help="Only ids that start with this.")
@click.option("--limit", default=20, show_default=True, type=click.IntRange(min=0), help="At most so many.")
@click.option("--after", metavar="CURSOR", help="Go on behind the cursor that an earlier scan printed.")
@click.option("--order-by", metavar="FIELD", help="In the order of this metadata field, instead of the ids.")
@click.option("--descending", is_flag=True, help="With --order-by: the greatest value first.")
@click.option("--vector", "with_vector", is_flag=True, help="Show the vectors too.")
@json_option
def scan(
    store: Path,
    where: dict[str, Any] | None,
    namespace: str,
    everywhere: bool,
    prefix: str | None,
    limit: int,
    after: str | None,
    order_by: str | None,
    descending: bool,
    with_vector: bool,
    as_json: bool,
) -> None:
    """Look through rows in the order of their ids, or of a field. For all of them in a file, see export.

    \b
    Examples:
      mrlstore scan papers.mrl
      mrlstore scan papers.mrl --prefix paper-1 --where '{"lang": "de"}' --limit 100
      mrlstore scan papers.mrl --order-by year --descending --limit 5
      mrlstore scan papers.mrl --all --json
    """
    include: tuple[Include, ...] = (
        ("metadata", "document", "vector") if with_vector else ("metadata", "document")
    )
    with mrlstore.open(store, mode="r") as opened:
        space = None if everywhere else namespace
        pages = opened.scan(
            where,
            namespace=space,
            prefix=prefix,
            include=include,
            limit=limit + 1,
            after=after,
            order_by=order_by,
            descending=descending,
        )
        found = list(pages)
    records, more = found[:limit], len(found) > limit
    cursor = records[-1].cursor if records and more else None
    if as_json:
        output.print_json({"rows": [plain_row(record) for record in records], "cursor": cursor})
        return
    for record in records:
        print_record(record)
    if cursor:
        print_line(f"there are more; go on with --after {cursor}", file=sys.stderr)


@click.command()
@store_argument
@where_option
@namespace_option
@click.option("--all", "everywhere", is_flag=True, help="In all namespaces.")
@json_option
def count(store: Path, where: dict[str, Any] | None, namespace: str, everywhere: bool, as_json: bool) -> None:
    """Count rows, all or those that match a filter.

    \b
    Examples:
      mrlstore count papers.mrl
      mrlstore count papers.mrl --where '{"year": {"$gte": 2020}, "lang": {"$in": ["en", "de"]}}'
    """
    with mrlstore.open(store, mode="r") as opened:
        rows = opened.count(where, namespace=None if everywhere else namespace)
    if as_json:
        output.print_json({"rows": rows})
    else:
        print(rows)
