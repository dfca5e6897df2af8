"""The commands that look after a store: optimize, verify, repair, backup."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click
from rich.console import Console

import mrlstore
from mrlstore.cli import failures, output
from mrlstore.cli.options import (
    FileOrUrl,
    json_option,
    open_existing,
    storage_option,
    store_argument,
    threads_option,
    timeout_option,
)
from mrlstore.cli.remarks import in_commands
from mrlstore.types import VerifyReport

_SHOWN = 20  # ids of lost vectors that are printed without --json


@click.command()
@store_argument
@timeout_option
@threads_option
@json_option
def optimize(store: Path, timeout_s: float | None, threads: int | None, as_json: bool) -> None:
    """Index every row, merge segments, give disk space back.

    Answers are right without it, and it is safe at any time: readers and writers continue meanwhile.

    \b
    Example:
      mrlstore optimize papers.mrl
    """
    started = time.perf_counter()
    with open_existing(store, threads=threads) as opened:
        before = opened.stats()
        with output.progress_bars(as_json=as_json) as progress:
            opened.optimize(progress=progress, timeout_s=timeout_s)
        after = opened.stats()
    seconds = time.perf_counter() - started
    if as_json:
        output.print_json({"seconds": seconds, "before": asdict(before), "after": asdict(after)})
        return
    out = output.console()
    out.print(f"Optimized {store} in {seconds:.1f} s", style="bold", soft_wrap=True)
    table = output.facts_table()
    for name, old, new in (
        ("rows in a graph", before.indexed_rows, after.indexed_rows),
        ("segments", before.segments, after.segments),
        ("rows in the tail", before.tail_rows, after.tail_rows),
        ("dead rows", before.dead_rows, after.dead_rows),
    ):
        table.add_row(name, f"{old:,} → {new:,}" if old != new else f"{new:,}")
    sizes = (output.bytes_text(before.bytes_on_disk), output.bytes_text(after.bytes_on_disk))
    table.add_row("on disk", " → ".join(sizes) if sizes[0] != sizes[1] else sizes[0])
    out.print(table)


@click.command()
@store_argument
@json_option
def verify(store: Path, as_json: bool) -> int:
    """Check every checksum, range and link of a store.

    This reads everything. Damaged parts are marked, so that every process works around them. Exit code 5
    means that damage was found.

    \b
    Example:
      mrlstore verify papers.mrl
    """
    started = time.perf_counter()
    with open_existing(store) as opened, output.progress_bars(as_json=as_json) as progress:
        report = opened.verify(progress=progress)
    seconds = time.perf_counter() - started
    code = failures.DONE if report.ok else failures.DAMAGED
    if as_json:
        output.print_json({**asdict(report), "seconds": seconds})
        return code
    out = output.console()
    checked = (
        f"{output.count_text(report.rows, 'row')}, {output.count_text(report.parts, 'part')}, "
        f"{output.bytes_text(report.bytes_checked)} in {seconds:.1f} s"
    )
    if report.ok:
        out.print(f"✓ {store} is sound: {checked}", soft_wrap=True)
        return code
    found = output.count_text(len(report.problems), "problem")
    out.print(f"✗ {store} has {found}: {checked}", style="red", soft_wrap=True)
    _print_problems(report, store, out)
    return code


@click.command()
@store_argument
@timeout_option
@json_option
def repair(store: Path, timeout_s: float | None, as_json: bool) -> int:
    """Rebuild what verify found damaged.

    Indexes and columns are rebuilt, whole rows kept, and the ids of lost vectors printed. Damaged
    files are set aside in the store's folder, not deleted. Exit code 5 says that not all could be mended:
    restore a backup then.

    \b
    Example:
      mrlstore repair papers.mrl
    """
    started = time.perf_counter()
    with open_existing(store) as opened, output.progress_bars(as_json=as_json) as progress:
        repaired = opened.repair(progress=progress, timeout_s=timeout_s)
    seconds = time.perf_counter() - started
    code = failures.DONE if repaired.ok else failures.DAMAGED
    if as_json:
        output.print_json({**asdict(repaired), "seconds": seconds})
        return code
    out = output.console()
    if repaired.ok and not (repaired.segments or repaired.lost):
        out.print(f"✓ {store} is sound: no segment had to be mended, in {seconds:.1f} s", soft_wrap=True)
        return code
    mended = output.count_text(repaired.segments, "segment")
    out.print(f"Mended {mended} of {store} in {seconds:.1f} s", soft_wrap=True)
    _print_lost(repaired.lost, out)
    for place in repaired.set_aside:
        out.print(f"set aside {place}", soft_wrap=True)
    if repaired.set_aside:
        out.print("What is set aside is used no more: delete it once nothing more is to be found in it.")
    _print_problems(repaired.report, store, out)
    return code


def _print_lost(lost: Sequence[tuple[str, str]], out: Console) -> None:
    """Which rows have no vector any more, the first ones by name, and what to do about it."""
    if not lost:
        return
    rows = output.count_text(len(lost), "row has", "rows have")
    out.print(
        f"{rows} lost the vector, and kept metadata and document. "
        "Upsert these ids with their vectors again, or restore a backup:",
        soft_wrap=True,
    )
    for namespace, row_id in lost[:_SHOWN]:
        inside = f" in namespace {namespace}" if namespace else ""
        out.print(f"lost the vector of {row_id}{inside}", soft_wrap=True)
    if len(lost) > _SHOWN:
        out.print(f"and {len(lost) - _SHOWN:,} more; --json lists all of them")


def _print_problems(report: VerifyReport, store: Path, out: Console) -> None:
    for problem in report.problems:
        text = f"\n{problem.path}\n  {problem.what}\n  remedy: {problem.remedy}"
        out.print(in_commands(text, store), soft_wrap=True)  # paths stay whole


@click.command()
@store_argument
@click.argument("destination", type=FileOrUrl(must_exist=False))
@storage_option
@json_option
def backup(store: Path, destination: Path | str, options: dict[str, Any] | None, as_json: bool) -> None:
    """Copy a store to DESTINATION while it is in use.

    DESTINATION is a new folder, or an s3://, gs:// or az:// URL. The copy shows the store at one moment. On
    the same file system the vectors are shared by hard links, so it is quick and takes little space; for
    safety against a broken disk, copy it to another disk. To a URL the store is sent as by `mrlstore ship
    --once`: a second backup to the same URL sends only what has changed. `mrlstore restore` brings it back.

    \b
    Examples:
      mrlstore backup papers.mrl backups/papers-monday.mrl
      mrlstore backup papers.mrl s3://backups/papers
    """
    started = time.perf_counter()
    if isinstance(destination, str):
        from mrlstore.shipping import restore_points

        with mrlstore.open(store, mode="r") as opened, opened.ship(destination, options=options) as shipping:
            shipping.now()
        rows = restore_points(destination, options=options)[0].rows
    elif options is not None:
        raise click.UsageError("--option goes with an s3://, gs:// or az:// URL")
    else:
        with mrlstore.open(store, mode="r") as opened, output.progress_bars(as_json=as_json) as progress:
            opened.backup(destination, progress)
        with mrlstore.open(destination, mode="r") as copy:
            rows = copy.count(namespace=None)
    seconds = time.perf_counter() - started
    if as_json:
        output.print_json({"destination": str(destination), "rows": rows, "seconds": seconds})
        return
    output.console().print(
        f"Backed up {output.count_text(rows, 'row')} to {destination} in {seconds:.1f} s", soft_wrap=True
    )
