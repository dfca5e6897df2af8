"""`mrlstore cluster build`: a bulk load by Ray Data."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any, Literal

import click

from mrlstore import cluster as clusters
from mrlstore.cli import output
from mrlstore.cli.cluster_options import home_argument
from mrlstore.cli.options import json_option, storage_option
from mrlstore.types import Conflict


@click.command()
@click.argument("source", nargs=-1, required=True)
@home_argument
@click.option("--namespace", default="", help="Where rows go that name none themselves.")
@click.option(
    "--on-conflict",
    type=click.Choice(["skip", "replace", "error"]),
    default="skip",
    show_default=True,
    help="What becomes of rows whose id is there.",
)
@click.option(
    "--extra",
    type=click.Choice(["refuse", "metadata"]),
    default="refuse",
    show_default=True,
    help="metadata: make metadata of other columns.",
)
@click.option("--id-as-text", is_flag=True, help="Make texts of ids that are whole numbers.")
@click.option("--batch", default=4096, show_default=True, metavar="N", help="Rows of a task.")
@click.option("--writers", default=2, show_default=True, metavar="N", help="Tasks at the same time.")
@click.option(
    "--num-cpus", default=1.0, show_default=True, metavar="N", help="Processors that a writer asks Ray for."
)
@storage_option
@json_option
def build(
    source: tuple[str, ...],
    home: str,
    namespace: str,
    on_conflict: Conflict,
    extra: Literal["refuse", "metadata"],
    id_as_text: bool,
    batch: int,
    writers: int,
    num_cpus: float,
    options: dict[str, Any] | None,
    as_json: bool,
) -> None:
    """Load rows of Parquet files, SOURCE, into a cluster by Ray Data, and ship its snapshots.

    SOURCE is one or more files, folders or URLs, with the columns id, vector, metadata, document and
    namespace. A load that was interrupted goes on when it is run again. Texts are embedded in Python only:
    `mrlstore.cluster.build(..., embedder=...)`. Needs the extra: pip install 'mrlstore[ray-data]'

    \b
    Example:
      mrlstore cluster build s3://bucket/rows/ s3://bucket/papers --writers 8
    """
    with output.progress_bars(as_json=as_json) as progress:
        done = clusters.build(
            list(source),
            home,
            namespace=namespace,
            on_conflict=on_conflict,
            extra=extra,
            id_as_text=id_as_text,
            batch=batch,
            writers=writers,
            num_cpus=num_cpus,
            progress=progress,
            options=options,
        )
    if as_json:
        output.print_json(asdict(done))
        return
    written, skipped = output.count_text(done.written, "row"), f"{done.skipped:,} were there"
    output.console().print(f"Wrote {written} to {home}; {skipped}, {done.refused:,} refused", soft_wrap=True)
    for place, why in done.refusals:
        output.errors().print(f"{place}: {why}", soft_wrap=True, markup=False)
