"""The command `mrlstore tiers`: compares prefix lengths on the vectors of a store."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
from rich.table import Table

import mrlstore
from mrlstore.cli import output
from mrlstore.cli.options import json_option, namespace_option, store_argument, threads_option
from mrlstore.cli.query_vectors import read_vectors
from mrlstore.recall.tiers import DIMS, GOAL, PROJECTED, Tier, TierReport
from mrlstore.recall.tiers.page import size_text

_WIDE = 112  # characters: a terminal of this width holds the whole table
_NARROW = (0, 1, 3, 4, 6)  # table columns shown in a narrower terminal: tier, recall, p50, QPS, memory/row


@click.command()
@store_argument
@click.option("--queries", type=click.Path(path_type=Path, exists=True, dir_okay=False), metavar="FILE.npy",
              help="Query vectors, [n, dim]; without, stored rows are taken as queries.")  # fmt: skip
@click.option("-k", default=10, show_default=True, type=click.IntRange(1, 1000), help="Results per query.")
@click.option("--dims", metavar="D,D,...", help=f"Prefixes; by default {','.join(map(str, DIMS))}.")
@click.option(
    "--by", metavar="FIELD", help='Also give recall for each value of a metadata field, or by "namespace".'
)
@click.option("--count", default=200, show_default=True, help="Stored rows to take as queries.")
@click.option("--sample", default=10_000, show_default=True, help="Most rows that graphs are built on.")
@click.option("-o", "--save", "targets", type=click.Path(path_type=Path), multiple=True, metavar="FILE",
              help="Write the report as .html, .png, .json or .csv; may be given several times.")  # fmt: skip
@namespace_option
@threads_option
@json_option
def tiers(
    store: Path,
    queries: Path | None,
    k: int,
    dims: str | None,
    by: str | None,
    count: int,
    sample: int,
    targets: tuple[Path, ...],
    namespace: str,
    threads: int | None,
    as_json: bool,
) -> None:
    """Compare prefix lengths on a store's own data.

    For every tier alone and for two stages at several shortlists: recall against all dims, latency, bytes.
    Ends with a recommendation. Nothing in the store is changed.

    \b
    Examples:
      mrlstore tiers papers.mrl
      mrlstore tiers papers.mrl --queries questions.npy --save tiers.html
    """
    lengths = [_length(text) for text in dims.split(",")] if dims else DIMS
    vectors = None if queries is None else read_vectors(queries)
    with (
        mrlstore.open(store, mode="r", threads=threads) as opened,
        output.progress_bars(as_json=as_json) as progress,
    ):
        report = opened.tier_report(
            vectors, k, lengths, namespace=namespace, by=by, count=count, sample=sample, progress=progress
        )
    for target in targets:
        report.save(target)
    if as_json:
        output.print_json(report.to_dict())
        return
    _show(report, targets)


def _length(text: str) -> int:
    try:
        return int(text)
    except ValueError as error:
        raise click.BadParameter(f"{text!r} is not a number of dims", param_hint="--dims") from error


def _show(report: TierReport, targets: tuple[Path, ...]) -> None:
    out = output.console()
    table = Table(
        title=f"{report.rows:,} rows x {report.dim:,} dims, {report.queries} {report.source}", box=None
    )
    heads = ["tier", f"recall@{report.k}", "95% interval", "p50 ms", "QPS", "disk/row", "memory/row"]
    heads.append(f"memory at {PROJECTED[1] // 1_000_000}M")
    shown = range(len(heads)) if out.width >= _WIDE else _NARROW
    for column in shown:
        table.add_column(heads[column], justify="right" if column else "left", no_wrap=True)
    for tier in report.tiers:
        cells = _cells(report, tier)
        table.add_row(*(cells[i] for i in shown), style="bold" if tier.recall >= GOAL else None)
    out.print(table)
    for stratum in report.strata:
        out.print(
            f"  {stratum.value}: {stratum.name}: {stratum.recall:.3f} "
            f"[{stratum.low:.3f}, {stratum.high:.3f}] over {stratum.queries} queries"
        )
    for warning in report.warnings:
        out.print(f"\nwarning: {warning}", style="yellow")
    out.print(f"\n{report.recommendation}")
    for target in targets:
        out.print(f"wrote {target}")


def _cells(report: TierReport, tier: Tier) -> list[str]:
    values: list[Any] = [
        tier.name, f"{tier.recall:.4f}", f"{tier.low:.3f}-{tier.high:.3f}", f"{tier.p50_ms:.3f}",
        f"{tier.qps_one:,.0f}", size_text(tier.disk_bytes_per_row), size_text(tier.memory_bytes_per_row),
        size_text(report.projected(tier)[PROJECTED[1]][1]),
    ]  # fmt: skip
    return values
