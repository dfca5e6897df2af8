"""`mrlstore ship` and `mrlstore restore`: a store's copy in object storage."""

from __future__ import annotations

import signal
import threading
from dataclasses import asdict
from pathlib import Path
from types import FrameType
from typing import Any, Final

import click

import mrlstore
from mrlstore.cli import output
from mrlstore.cli.options import json_option, storage_option, store_argument
from mrlstore.shipping import RestorePoint, Shipping, restore_points
from mrlstore.shipping import restore as restore_store

_LAST_S: Final = 60.0  # for the last snapshot when the process is asked to end


@click.command()
@store_argument
@click.argument("url")
@click.option("--once", is_flag=True, help="Ship the current content once, and end.")
@click.option(
    "--every", "every_s", type=float, default=10.0, metavar="SECONDS", help="Time between two snapshots."
)
@click.option("--keep", type=int, default=2, metavar="N", help="How many of the newest snapshots to keep.")
@storage_option
@json_option
def ship(
    store: Path,
    url: str,
    once: bool,
    every_s: float,
    keep: int,
    options: dict[str, Any] | None,
    as_json: bool,
) -> None:
    """Keep a copy of a store in object storage up to date.

    URL is s3://bucket/prefix, gs://bucket/prefix, az://container/prefix or a folder, for this store alone.
    Any number of processes may write meanwhile. SIGTERM and Ctrl-C end it after a last snapshot. Buckets need
    the extra: pip install 'mrlstore[object-storage]'

    \b
    Examples:
      mrlstore ship papers.mrl s3://backups/papers --option region=eu-central-1
      mrlstore ship papers.mrl /mnt/other-disk/papers --once
    """
    with (
        mrlstore.open(store, mode="r") as opened,
        opened.ship(url, every_s=every_s, keep=keep, options=options) as shipping,
    ):
        figures = shipping.now() if once else _until_a_signal(shipping)
    if as_json:
        output.print_json(asdict(figures))
        return
    size = output.bytes_text(figures.bytes_sent)
    output.console().print(
        f"{store} is at {url} up to generation {figures.generation:,}: "
        f"{output.count_text(figures.snapshots, 'snapshot')}, {size} sent",
        soft_wrap=True,
    )


def _until_a_signal(shipping: Shipping) -> mrlstore.ShippingStats:
    """Ship until SIGTERM or SIGINT, and then once more."""
    asked = threading.Event()

    def note(number: int, frame: FrameType | None) -> None:
        asked.set()

    before = {number: signal.signal(number, note) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        while not asked.is_set():
            shipping.wait(0.5)
        return shipping.now(_LAST_S)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@click.command()
@click.argument("url")
@click.argument("store", type=click.Path(path_type=Path), required=False)
@click.option("--list", "listed", is_flag=True, help="List the snapshots that can be restored.")
@click.option("--at", "point", metavar="NAME", help="The snapshot to restore, by default the newest.")
@storage_option
@json_option
def restore(
    url: str,
    store: Path | None,
    listed: bool,
    point: str | None,
    options: dict[str, Any] | None,
    as_json: bool,
) -> None:
    """Make STORE from its copy in object storage.

    STORE must not exist yet. Every byte is compared with the checksums that were computed when it was
    shipped.

    \b
    Examples:
      mrlstore restore s3://backups/papers papers.mrl
      mrlstore restore s3://backups/papers --list
      mrlstore restore s3://backups/papers old.mrl --at 3-1520
    """
    if listed == (store is not None):
        raise click.UsageError("give a folder for the store, or --list")
    if store is None:
        _print_points(restore_points(url, options=options), as_json)
        return
    with output.progress_bars(as_json=as_json) as progress:
        restored = restore_store(url, store, point, options=options, progress=progress)
    if as_json:
        output.print_json(asdict(restored))
        return
    output.console().print(
        f"Restored {output.count_text(restored.rows, 'row')} to {store}: generation "
        f"{restored.generation:,}, shipped at {restored.taken}",
        soft_wrap=True,
    )


def _print_points(found: list[RestorePoint], as_json: bool) -> None:
    if as_json:
        output.print_json([asdict(each) for each in found])
        return
    table = output.facts_table()
    for each in found:
        rows, size = output.count_text(each.rows, "row"), output.bytes_text(each.size)
        table.add_row(each.name, f"{each.taken}  {rows}, {size}")
    output.console().print(table)
