"""The command `mrlstore tiers`: which length of prefix to index, by measuring a store or a file."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table

import mrlstore
from mrlstore.cli import output
from mrlstore.cli.options import json_option, namespace_option, threads_option
from mrlstore.cli.query_vectors import read_vectors
from mrlstore.exchange.vector_file import vectors_of_file
from mrlstore.recall.tiers import DIMS, GOAL, PROJECTED, Tier, TierReport
from mrlstore.recall.tiers.page import size_text

_VECTOR_FILES = (".npy", ".parquet", ".pq", ".arrow", ".feather", ".ipc")
_WIDE = 112  # characters: a terminal of this width holds the whole table
_NARROW = (0, 1, 3, 4, 6)  # table columns shown in a narrower terminal: tier, recall, p50, QPS, memory/row


@click.command()
@click.argument("source", type=click.Path(path_type=Path))
@click.option("--queries", type=click.Path(path_type=Path, exists=True, dir_okay=False), metavar="FILE.npy",
              help="Query vectors, [n, dim]; by default stored rows are used as queries.")  # fmt: skip
@click.option("-k", default=10, show_default=True, type=click.IntRange(1, 1000), help="Results per query.")
@click.option("--dims", metavar="D,D,...", help=f"Prefixes; by default {','.join(map(str, DIMS))}.")
@click.option(
    "--by", metavar="FIELD", help='Also give recall for each value of a metadata field, or by "namespace".'
)
@click.option("--column", metavar="NAME", help="The column of a Parquet or Arrow file that has the vectors.")
@click.option("--count", default=200, show_default=True, help="Stored rows to use as queries.")
@click.option("--sample", default=10_000, show_default=True, help="The most rows to build graphs on.")
@click.option("--full", is_flag=True, help="Print every tier, not only the rows that the decision needs.")
@click.option("-o", "--save", "targets", type=click.Path(path_type=Path), multiple=True, metavar="FILE",
              help="Write the report as .html, .png, .json or .csv; may be given several times.")  # fmt: skip
@namespace_option
@threads_option
@json_option
def tiers(
    source: Path,
    queries: Path | None,
    k: int,
    dims: str | None,
    by: str | None,
    column: str | None,
    count: int,
    sample: int,
    full: bool,
    targets: tuple[Path, ...],
    namespace: str,
    threads: int | None,
    as_json: bool,
) -> None:
    """Decide which length of prefix to index.

    SOURCE is a store, or a .npy, Parquet or Arrow file of vectors, which is indexed in a temporary folder.
    Every length is measured alone, and with a re-rank on all dims. The report shows the rows that you need
    for a decision, compared with the store as it is, and the command to run. Nothing in the store is changed.

    \b
    Examples:
      mrlstore tiers papers.mrl
      mrlstore tiers papers.mrl --queries questions.npy --save tiers.html
      mrlstore tiers vectors.npy --full
      mrlstore tiers rows.parquet --column embedding --dims 128,256,512
    """
    lengths = [_length(text) for text in dims.split(",")] if dims else DIMS
    vectors = None if queries is None else read_vectors(queries)
    with (
        output.progress_bars(as_json=as_json) as progress,
        _measured(source, column, threads) as opened,
    ):
        report = opened.tier_report(
            vectors, k, lengths, namespace=namespace, by=by, count=count, sample=sample, progress=progress
        )
    if source.is_file():
        report = replace(report, path=str(source))
    for target in targets:
        report.save(target)
    if as_json:
        output.print_json(report.to_dict())
        return
    _show(report, full=full)
    for target in targets:
        output.console().print(f"wrote {target}")
    command = report.command(str(source)) or "Nothing has to be changed."
    output.console().print(f"\n{command}", soft_wrap=True)


@contextmanager
def _measured(source: Path, column: str | None, threads: int | None) -> Iterator[mrlstore.Store]:
    """The store, or one made of a file of vectors, for as long as it is measured."""
    if not source.is_file():
        if column is not None:
            raise click.UsageError("--column goes with a Parquet or Arrow file")
        if not source.exists() and source.suffix.lower() in _VECTOR_FILES:
            raise click.UsageError(f"{source}: no such file")
        with mrlstore.open(source, mode="r", threads=threads) as opened:
            yield opened
        return
    blocks = vectors_of_file(source, column)
    with tempfile.TemporaryDirectory(prefix="mrlstore-tiers-") as folder:
        place = Path(folder) / f"{source.stem}.mrl"
        with mrlstore.open(place, threads=threads, auto_maintain=False) as filled:
            rows = 0
            for block in blocks:
                filled.upsert([str(number) for number in range(rows, rows + len(block))], block)
                rows += len(block)
            filled.optimize()
            yield filled


def _length(text: str) -> int:
    try:
        return int(text)
    except ValueError as error:
        raise click.BadParameter(f"{text!r} is not a number of dims", param_hint="--dims") from error


def _show(report: TierReport, *, full: bool) -> None:
    out = output.console()
    title = f"{report.rows:,} rows x {report.dim:,} dims, {report.queries} {report.source}"
    table = Table(title=title, box=None)
    for number, head in enumerate(("", "tier", f"recall@{report.k}", "time", "memory")):
        table.add_column(head, justify="left" if number < 2 else "right", no_wrap=number > 0)
    for row in report.summary:
        cells = (row.what, row.tier, f"{row.recall:.3f}", f"{row.time:.2f}", f"{row.memory:.2f}")
        table.add_row(*cells, style="bold" if row.reaches_goal else None)
    out.print(table)
    out.print(
        f"bold: recall of {GOAL:g} or more. Time of a query and memory of a row, as multiples of the "
        "store as it is.",
        style="dim",
    )
    if full:
        _show_all(report, out)
    for stratum in report.strata:
        out.print(
            f"  {stratum.value}: {stratum.name}: {stratum.recall:.3f} "
            f"[{stratum.low:.3f}, {stratum.high:.3f}] over {stratum.queries} queries"
        )
    for warning in report.warnings:
        out.print(f"\nwarning: {warning}", style="yellow")
    out.print(f"\n{report.recommendation}")


def _show_all(report: TierReport, out: Console) -> None:
    table = Table(box=None)
    heads = ["tier", f"recall@{report.k}", "95% interval", "p50 ms", "QPS", "disk/row", "memory/row"]
    heads.append(f"memory at {PROJECTED[1] // 1_000_000}M")
    shown = range(len(heads)) if out.width >= _WIDE else _NARROW
    for column in shown:
        table.add_column(heads[column], justify="right" if column else "left", no_wrap=True)
    for tier in report.tiers:
        cells = _cells(report, tier)
        table.add_row(*(cells[i] for i in shown), style="bold" if tier.reaches_goal else None)
    out.print()
    out.print(table)


def _cells(report: TierReport, tier: Tier) -> list[str]:
    values: list[Any] = [
        tier.name, f"{tier.recall:.4f}", f"{tier.low:.3f}-{tier.high:.3f}", f"{tier.p50_ms:.3f}",
        f"{tier.qps_one:,.0f}", size_text(tier.disk_bytes_per_row), size_text(tier.memory_bytes_per_row),
        size_text(report.projected(tier)[PROJECTED[1]][1]),
    ]  # fmt: skip
    return values
