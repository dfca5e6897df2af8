"""`mrlstore cluster`: makes, inspects, verifies and fills the homes of clusters, and exports their rows."""

from __future__ import annotations

import time
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal, get_args

import click

from mrlstore import cluster as clusters
from mrlstore.cli import cluster_build, cluster_nodes, failures, output
from mrlstore.cli.cluster_options import folder_option, home_argument
from mrlstore.cli.options import json_option, storage_option, store_argument
from mrlstore.cluster.home import Durability
from mrlstore.types import GraphBuilder, Tokenizer

_shards = click.option(
    "--shards", default=1, show_default=True, metavar="N", help="A power of two; it cannot be changed later."
)
_durability = click.option(
    "--durability",
    type=click.Choice(get_args(Durability)),
    default="shared",
    show_default=True,
    help="shared: a write that returned is in the log in object storage. local: it is on the disk, and "
    "in the log a moment later.",
)


@click.group()
def cluster() -> None:
    """Make, inspect, fill and export clusters: many shards as one store.

    HOME is s3://bucket/prefix, gs://bucket/prefix, az://container/prefix or a folder. Buckets need the
    extra: pip install 'mrlstore[object-storage]'

    \b
    Examples:
      mrlstore cluster create s3://bucket/papers --dim 3072 --shards 4
      mrlstore cluster status s3://bucket/papers
      mrlstore cluster verify s3://bucket/papers --json
      mrlstore cluster import papers.mrl s3://bucket/papers --shards 4
      mrlstore cluster export s3://bucket/papers papers.mrl
      mrlstore cluster up s3://bucket/papers --folder /var/lib/papers
    """


@cluster.command()
@home_argument
@click.option("--dim", type=int, required=True, metavar="N", help="Length of the vectors.")
@click.option("--prefix-dim", type=int, metavar="N", help="Length of the searched prefix; by default 768.")
@_shards
@_durability
@click.option("--m", default=16, show_default=True, metavar="N", help="Links of a row in the graphs.")
@click.option(
    "--ef-construction", default=200, show_default=True, metavar="N", help="Effort of building the graphs."
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
@storage_option
@json_option
def create(
    home: str,
    dim: int,
    prefix_dim: int | None,
    shards: int,
    durability: Durability,
    m: int,
    ef_construction: int,
    tokenizer: Tokenizer | None,
    graph: GraphBuilder | None,
    options: dict[str, Any] | None,
    as_json: bool,
) -> None:
    """Make the home of an empty cluster.

    \b
    Example:
      mrlstore cluster create s3://bucket/papers --dim 3072 --shards 4
    """
    clusters.create(
        home,
        dim=dim,
        prefix_dim=prefix_dim,
        shards=shards,
        durability=durability,
        m=m,
        ef_construction=ef_construction,
        tokenizer=tokenizer,
        graph=graph,
        options=options,
    )
    if as_json:
        output.print_json(asdict(clusters.status(home, options=options)))
        return
    text = output.count_text(shards, "shard")
    output.console().print(f"Created {home}: {text} for vectors of {dim:,} dims", soft_wrap=True)


@cluster.command()
@home_argument
@storage_option
@json_option
def status(home: str, options: dict[str, Any] | None, as_json: bool) -> None:
    """Show who writes each shard, and how far its log and snapshots have come.

    Looks at object storage alone. Rows are those of the newest snapshots; what the log has behind them is
    shown as entries and bytes.

    \b
    Example:
      mrlstore cluster status s3://bucket/papers
    """
    found = clusters.status(home, options=options)
    if as_json:
        output.print_json({**asdict(found), "rows": found.rows})
        return
    rows, shards = output.count_text(found.rows, "row"), output.count_text(len(found.shards), "shard")
    out = output.console()
    out.print(
        f"{found.home}: {rows} in the snapshots of {shards}, {found.dim:,} dims, "
        f"durability {found.durability}",
        style="bold",
        soft_wrap=True,
    )
    for one in found.shards:
        out.print(_shard_text(one), soft_wrap=True)


def _shard_text(one: clusters.ShardStatus) -> str:
    if not one.epoch:
        return f"shard {one.shard}: never written"
    snapshot = "no snapshot"
    if one.snapshot is not None:
        size = output.bytes_text(one.snapshot.bytes)
        snapshot = f"snapshot of place {one.snapshot.place:,} ({size}, {one.snapshot.taken})"
    entries = output.count_text(one.entries_behind, "entry", "entries")
    return (
        f"shard {one.shard}: epoch {one.epoch:,} of {one.writer}, log up to place {one.place:,}; {snapshot}, "
        f"{entries} behind it ({output.bytes_text(one.bytes_behind)})"
    )


@cluster.command()
@home_argument
@storage_option
@json_option
def verify(home: str, options: dict[str, Any] | None, as_json: bool) -> int:
    """Check the snapshots and the log of every shard.

    Reads the newest two snapshots and the log behind the older one from object storage and compares all with
    their checksums. Writers go on meanwhile. Exit code 5 says that something was found.

    \b
    Example:
      mrlstore cluster verify s3://bucket/papers
    """
    started = time.perf_counter()
    with output.progress_bars(as_json=as_json) as progress:
        report = clusters.verify(home, options=options, progress=progress)
    seconds = time.perf_counter() - started
    code = failures.DONE if report.ok else failures.DAMAGED
    if as_json:
        output.print_json({**asdict(report), "seconds": seconds})
        return code
    out = output.console()
    checked = (
        f"{output.count_text(report.shards, 'shard')}, {output.count_text(report.snapshots, 'snapshot')}, "
        f"{output.count_text(report.log_entries, 'log entry', 'log entries')}, "
        f"{output.bytes_text(report.bytes_checked)} of snapshots in {seconds:.1f} s"
    )
    if report.ok:
        out.print(f"✓ {home} is sound: {checked}", soft_wrap=True)
        return code
    count = output.count_text(len(report.problems), "problem")
    out.print(f"✗ {home} has {count}: {checked}", style="red", soft_wrap=True)
    for problem in report.problems:
        out.print(f"\n{problem.path}\n  {problem.what}\n  remedy: {problem.remedy}", soft_wrap=True)
    return code


@cluster.command("import")
@store_argument
@home_argument
@_shards
@_durability
@folder_option
@storage_option
@json_option
def import_(
    store: Path,
    home: str,
    shards: int,
    durability: Durability,
    folder: Path | None,
    options: dict[str, Any] | None,
    as_json: bool,
) -> None:
    """Make a cluster with all rows and settings of STORE.

    When it is done object storage has a snapshot of each shard, with its graphs. If it is interrupted,
    the same command goes on where it stopped.

    \b
    Example:
      mrlstore cluster import papers.mrl s3://bucket/papers --shards 4
    """
    with output.progress_bars(as_json=as_json) as progress:
        rows = clusters.import_store(
            store,
            home,
            shards=shards,
            durability=durability,
            folder=folder,
            options=options,
            progress=progress,
        )
    _print_moved(rows, str(store), home, as_json)


@cluster.command()
@home_argument
@store_argument
@click.option(
    "--engine",
    type=click.Choice(["local", "ray"]),
    default="local",
    show_default=True,
    help="local: copies in this process. ray: those of the Ray cluster that runs here.",
)
@folder_option
@storage_option
@json_option
def export(
    home: str,
    store: Path,
    engine: Literal["local", "ray"],
    folder: Path | None,
    options: dict[str, Any] | None,
    as_json: bool,
) -> None:
    """Make STORE, one store on this machine, with all rows of a cluster.

    Nothing may be at STORE yet. Writers go on meanwhile; each row is of the moment at which it is read.

    \b
    Example:
      mrlstore cluster export s3://bucket/papers papers.mrl
    """
    with (
        clusters.connect(home, engine=engine, mode="r", folder=folder, options=options) as source,
        output.progress_bars(as_json=as_json) as progress,
    ):
        rows = clusters.export_store(source, store, progress)
    _print_moved(rows, home, str(store), as_json)


def _print_moved(rows: int, source: str, target: str, as_json: bool) -> None:
    if as_json:
        output.print_json({"rows": rows, "from": source, "to": target})
    else:
        text = output.count_text(rows, "row")
        output.console().print(f"Copied {text} from {source} to {target}", soft_wrap=True)


for _command in (
    cluster_build.build,
    cluster_nodes.up,
    cluster_nodes.hosts,
    cluster_nodes.move,
    cluster_nodes.drain,
    cluster_nodes.down,
):
    cluster.add_command(_command)
