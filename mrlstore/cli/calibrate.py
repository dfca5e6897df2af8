"""The commands that fit a store to its own data: calibrate, set-prefix-dim, set-graph."""

from __future__ import annotations

import time
from dataclasses import asdict
from pathlib import Path
from typing import get_args

import click
from rich.console import Console
from rich.table import Table

from mrlstore.cli import output
from mrlstore.cli.options import (
    json_option,
    namespace_option,
    open_existing,
    store_argument,
    threads_option,
    timeout_option,
)
from mrlstore.cli.query_vectors import read_vectors
from mrlstore.index.build import MIN_GRAPH_ROWS
from mrlstore.planning.calibration_curves import Curve
from mrlstore.recall.calibrate import Calibration
from mrlstore.recall.defaults import QUERIES
from mrlstore.types import GraphBuilder

_TARGETS = (0.9, 0.95, 0.99)


@click.command()
@store_argument
@click.option("--queries", type=click.Path(path_type=Path, exists=True, dir_okay=False), metavar="FILE.npy",
              help="Query vectors, [n, dim]; by default live questions or rows.")  # fmt: skip
@click.option("-k", "ks", default=(10,), show_default=True, multiple=True, type=int, metavar="N",
              help="Results per query; may be given several times.")  # fmt: skip
@click.option(
    "--count", default=QUERIES, show_default=True, metavar="N", help="Questions to make from stored rows."
)
@namespace_option
@threads_option
@json_option
def calibrate(
    store: Path,
    queries: Path | None,
    ks: tuple[int, ...],
    count: int,
    namespace: str,
    threads: int | None,
    as_json: bool,
) -> None:
    """Measure which effort gives which recall.

    A query with a target recall chooses its effort by this. A store calibrates by itself, with questions made
    from stored rows, when it is first indexed and when 3% of its rows are new or gone. Run this command if
    you have a few hundred real queries, or want results for another k.

    \b
    Examples:
      mrlstore calibrate papers.mrl --queries questions.npy
      mrlstore calibrate papers.mrl -k 10 -k 100
    """
    vectors = None if queries is None else read_vectors(queries)
    with (
        open_existing(store, threads=threads) as opened,
        output.progress_bars(as_json=as_json) as progress,
    ):
        learned = opened.calibrate(vectors, ks, namespace=namespace, count=count, progress=progress)
    if as_json:
        output.print_json(asdict(learned))
        return
    _show(learned, store, output.console())


def _show(learned: Calibration, store: Path, out: Console) -> None:
    if not learned.curves:
        out.print(
            f"Nothing was measured: {store} has no graph over rows of this namespace yet. mrlstore optimize "
            f"builds one for {MIN_GRAPH_ROWS:,} rows with vectors or more; fewer are scanned.",
            soft_wrap=True,
        )
        return
    out.print(
        f"Calibrated {store} in {learned.seconds:.1f} s: {output.count_text(learned.rows, 'row')}, with "
        f"{learned.queries:,} {learned.source}",
        style="bold",
        soft_wrap=True,
    )
    table = Table(box=None)
    for head in ("k", "target", "path", "ef", "shortlist", "recall", "95% interval"):
        table.add_column(head, justify="left" if head == "path" else "right", no_wrap=True)
    for curve in learned.curves:
        if curve.name == "all":
            for target in _TARGETS:
                table.add_row(f"{curve.k}", f"{target:g}", *_cells(curve, target))
    out.print(table)
    for words in learned.warnings:
        out.print(f"\nwarning: {words}", style="yellow", soft_wrap=True)


def _cells(curve: Curve, target: float) -> tuple[str, ...]:
    """The cheapest measured effort that reaches the target without a filter."""
    level = curve.choose(target)
    if level is None:
        return "exact", "", "", "1", ""
    span = level.interval
    ef = f"{level.ef:,}" if level.path == "walk" else ""
    return level.path, ef, f"{level.shortlist:,}", f"{level.recall:.4f}", f"{span.low:.3f}-{span.high:.3f}"


@click.command(name="set-prefix-dim")
@store_argument
@click.argument("prefix_dim", type=int, metavar="N")
@timeout_option
@threads_option
@json_option
def set_prefix_dim(
    store: Path, prefix_dim: int, timeout_s: float | None, threads: int | None, as_json: bool
) -> None:
    """Index another length of prefix: the first N dimensions.

    Codes and graphs are built again from the stored vectors; readers and writers go on meanwhile. mrlstore
    tiers shows what each length finds and costs.

    \b
    Example:
      mrlstore set-prefix-dim papers.mrl 512
    """
    started = time.perf_counter()
    with open_existing(store, threads=threads) as opened, output.progress_bars(as_json=as_json) as progress:
        before = opened.prefix_dim
        opened.set_prefix_dim(prefix_dim, progress=progress, timeout_s=timeout_s)
    seconds = time.perf_counter() - started
    if as_json:
        output.print_json({"before": before, "prefix_dim": prefix_dim, "seconds": seconds})
        return
    output.console().print(
        f"{store} is searched by the first {prefix_dim:,} dims (before: {before:,}), in {seconds:.1f} s",
        soft_wrap=True,
    )


@click.command(name="set-graph")
@store_argument
@click.argument("graph", type=click.Choice(list(get_args(GraphBuilder))))
@timeout_option
@threads_option
@json_option
def set_graph(
    store: Path, graph: GraphBuilder, timeout_s: float | None, threads: int | None, as_json: bool
) -> None:
    """Choose what builds the graphs, and build them anew.

    GRAPH is mrlstore or hnswlib. Readers and writers go on meanwhile. hnswlib has to be installed (pip
    install 'mrlstore[hnswlib]') wherever the store is indexed.

    \b
    Example:
      mrlstore set-graph papers.mrl hnswlib
    """
    started = time.perf_counter()
    with open_existing(store, threads=threads) as opened, output.progress_bars(as_json=as_json) as progress:
        before = opened.stats().graph
        opened.set_graph(graph, progress=progress, timeout_s=timeout_s)
    seconds = time.perf_counter() - started
    if as_json:
        output.print_json({"before": before, "graph": graph, "seconds": seconds})
        return
    output.console().print(
        f"The graphs of {store} are built by {graph} (before: {before}), in {seconds:.1f} s", soft_wrap=True
    )
