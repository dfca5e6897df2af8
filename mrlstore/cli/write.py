"""The commands that change a store: create, update, delete."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any, get_args

import click

import mrlstore
from mrlstore.cli import failures, output
from mrlstore.cli.options import (
    json_object,
    json_option,
    namespace_option,
    open_existing,
    store_argument,
    where_option,
)
from mrlstore.cli.query_vectors import read_vector
from mrlstore.types import GraphBuilder, Tokenizer


@click.command()
@store_argument
@click.option("--dim", type=int, metavar="N", help="Length of the vectors; by default that of the first.")
@click.option("--prefix-dim", type=int, metavar="N", help="Length of the searched prefix; by default 768.")
@click.option("--m", default=16, show_default=True, metavar="N", help="Links of a row in the graph.")
@click.option(
    "--ef-construction", default=200, show_default=True, metavar="N", help="Effort of building the graph."
)
@click.option(
    "--tokenizer",
    type=click.Choice(list(get_args(Tokenizer))),
    help="How documents are cut into words for keywords; by default unicode61.",
)
@click.option(
    "--graph",
    type=click.Choice(list(get_args(GraphBuilder))),
    help="What builds the graphs; by default mrlstore. hnswlib is an extra: mrlstore[hnswlib].",
)
@json_option
def create(
    store: Path,
    dim: int | None,
    prefix_dim: int | None,
    m: int,
    ef_construction: int,
    tokenizer: Tokenizer | None,
    graph: GraphBuilder | None,
    as_json: bool,
) -> None:
    """Make an empty store.

    STORE is the folder, which must not exist yet. An import creates a missing store by itself.

    \b
    Examples:
      mrlstore create papers.mrl
      mrlstore create papers.mrl --dim 3072 --prefix-dim 768
      mrlstore create papers.mrl --tokenizer trigram
    """
    opened = mrlstore.open(
        store,
        dim=dim,
        prefix_dim=prefix_dim,
        mode="x",
        m=m,
        ef_construction=ef_construction,
        tokenizer=tokenizer,
        graph=graph,
    )
    with opened:
        stats = opened.stats()
    if as_json:
        output.print_json(asdict(stats))
        return
    length = f"{stats.dim:,} dims" if stats.dim else "the length of the first vectors"
    output.console().print(f"Created {store} for vectors of {length}", soft_wrap=True)


@click.command()
@store_argument
@click.argument("ids", nargs=-1)
@click.option(
    "-m",
    "--metadata",
    type=json_object,
    metavar="JSON",
    help="Keys to set, such as '{\"read\": true}'; null removes a key. Other keys stay.",
)
@click.option("--document", metavar="TEXT", help="The new document of a single row, which IDS must name.")
@click.option("--vector", metavar="FILE|JSON", help="Its new vector: a .npy file, or a JSON list of numbers.")
@where_option
@namespace_option
@json_option
def update(
    store: Path,
    ids: tuple[str, ...],
    metadata: dict[str, Any] | None,
    document: str | None,
    vector: str | None,
    where: dict[str, Any] | None,
    namespace: str,
    as_json: bool,
) -> int:
    """Change metadata, documents and vectors of rows.

    What you do not give stays as it is. Choose rows by IDS, by --where, or by both. Exit code 3 means that
    some IDS do not exist; the others are changed.

    \b
    Examples:
      mrlstore update papers.mrl paper-17 paper-18 -m '{"read": true}'
      mrlstore update papers.mrl --where '{"year": {"$lt": 2000}}' -m '{"old": true, "new": null}'
      mrlstore update papers.mrl paper-17 --document "A better abstract." --vector abstract.npy
    """
    if metadata is None and document is None and vector is None:
        raise click.UsageError("give --metadata, --document or --vector")
    if (document is not None or vector is not None) and (len(ids) != 1 or where is not None):
        raise click.UsageError("--document and --vector go with one id, and without --where")
    with open_existing(store) as opened:
        names = list(dict.fromkeys(ids))
        changed = opened.update(
            names or None,
            [metadata] * len(names) if names and metadata is not None else metadata,
            None if document is None else [document],
            vectors=None if vector is None else [read_vector(vector)],
            where=where,
            namespace=namespace,
        )
        existing = {record.id for record in opened.get(names, namespace=namespace, include=())}
    missing = [name for name in names if name not in existing]
    if as_json:
        output.print_json({"updated": changed, "missing": missing})
    else:
        output.console().print(f"Updated {output.count_text(changed, 'row')} of {store}", soft_wrap=True)
        if missing:
            output.errors().print(f"mrlstore: no row has the id {', '.join(missing)}", soft_wrap=True)
    return failures.ABSENT if missing else failures.DONE


@click.command()
@store_argument
@click.argument("ids", nargs=-1)
@where_option
@click.option("--prefix", metavar="TEXT", help="Only ids that start with this.")
@namespace_option
@click.option("--dry-run", is_flag=True, help="Only count what would be deleted.")
@json_option
def delete(
    store: Path,
    ids: tuple[str, ...],
    where: dict[str, Any] | None,
    prefix: str | None,
    namespace: str,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Delete rows by their ids, a filter or a prefix.

    If you give several of these, rows must match all of them. Missing ids are not an error.

    \b
    Examples:
      mrlstore delete papers.mrl paper-17 paper-18
      mrlstore delete papers.mrl --where '{"year": {"$lt": 2000}}' --dry-run
      mrlstore delete papers.mrl --where '{"year": {"$lt": 2000}}'
      mrlstore delete notes.mrl --prefix drafts/ --dry-run
    """
    if not ids and not where and not prefix:
        raise click.UsageError("give IDS, or a --where or --prefix that is not empty")
    with open_existing(store) as opened:
        if dry_run:
            matching = _count(opened, ids, where, prefix, namespace)
        else:
            matching = opened.delete(ids or None, where=where, prefix=prefix, namespace=namespace)
        remaining = opened.count(namespace=None)
    if as_json:
        output.print_json({"deleted": 0 if dry_run else matching, "matching": matching, "rows": remaining})
        return
    done = "Would delete" if dry_run else "Deleted"
    text = f"{done} {output.count_text(matching, 'row')}; {store} has {output.count_text(remaining, 'row')}"
    output.console().print(text, soft_wrap=True)


def _count(
    store: mrlstore.Store,
    ids: tuple[str, ...],
    where: dict[str, Any] | None,
    prefix: str | None,
    namespace: str,
) -> int:
    if ids:
        names = [name for name in dict.fromkeys(ids) if name.startswith(prefix or "")]
        return len(store.get(names, where=where, namespace=namespace, include=()))
    if prefix:
        return sum(1 for _ in store.scan(where, prefix=prefix, namespace=namespace, include=()))
    return store.count(where, namespace=namespace)
