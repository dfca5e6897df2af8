"""`mrlstore cluster up`, `hosts`, `move`, `drain` and `down`: what Ray runs for a cluster."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from mrlstore import cluster as clusters
from mrlstore.cli import output
from mrlstore.cli.cluster_options import folder_option, home_argument, timeout_option
from mrlstore.cli.options import json_option, storage_option


@click.command()
@home_argument
@click.option("--hosts", type=int, metavar="N", help="How many; by default one on each node.")
@click.option("--copies", default=2, show_default=True, metavar="N", help="Hosts that answer for a shard.")
@click.option(
    "--num-cpus", default=1.0, show_default=True, metavar="N", help="Processors that a host asks Ray for."
)
@click.option("--threads", type=int, metavar="N", help="Of a shard, for builds; by default --num-cpus.")
@click.option(
    "--label",
    "labels",
    multiple=True,
    metavar="NAME=VALUE",
    help="A label of the nodes that are preferred; may be given several times.",
)
@folder_option
@timeout_option
@storage_option
@json_option
def up(
    home: str,
    hosts: int | None,
    copies: int,
    num_cpus: float,
    threads: int | None,
    labels: tuple[str, ...],
    folder: Path | None,
    timeout_s: float,
    options: dict[str, Any] | None,
    as_json: bool,
) -> None:
    """Start hosts in the Ray cluster that runs here, and wait until each shard has its copies.

    The hosts stay until `mrlstore cluster down`. Where hosts run already, theirs are the options that count.
    Needs the extra: pip install 'mrlstore[ray]'

    \b
    Example:
      mrlstore cluster up s3://bucket/papers --folder /var/lib/papers --label disk=nvme
    """
    with (
        clusters.connect(
            home,
            engine="ray",
            hosts=hosts,
            copies=copies,
            num_cpus=num_cpus,
            threads=threads,
            labels=dict(_pair(label) for label in labels),
            folder=folder,
            options=options,
        ),
        output.progress_bars(as_json=as_json) as progress,
    ):
        view = clusters.wait_until_whole(home, timeout_s=timeout_s, progress=progress, options=options)
    print_view(view, as_json)


@click.command()
@home_argument
@storage_option
@json_option
def hosts(home: str, options: dict[str, Any] | None, as_json: bool) -> None:
    """Show the hosts that Ray runs for a cluster, their nodes, restarts and shards.

    \b
    Example:
      mrlstore cluster hosts s3://bucket/papers
    """
    print_view(clusters.hosts(home, options=options), as_json)


@click.command()
@home_argument
@click.argument("shard", type=int)
@click.argument("node")
@timeout_option
@storage_option
@json_option
def move(
    home: str, shard: int, node: str, timeout_s: float, options: dict[str, Any] | None, as_json: bool
) -> None:
    """Let a host on NODE write SHARD from now on.

    The host restores a copy first; reads and writes go on meanwhile. NODE is a name that `mrlstore cluster
    hosts` shows, or the beginning of one.

    \b
    Example:
      mrlstore cluster move s3://bucket/papers 3 node-b
    """
    with output.progress_bars(as_json=as_json) as progress:
        clusters.move(home, shard, node, timeout_s=timeout_s, progress=progress, options=options)
    print_view(clusters.hosts(home, options=options), as_json)


@click.command()
@home_argument
@click.argument("node")
@click.option("--undo", is_flag=True, help="Let the node have hosts again.")
@timeout_option
@storage_option
@json_option
def drain(
    home: str, node: str, undo: bool, timeout_s: float, options: dict[str, Any] | None, as_json: bool
) -> None:
    """Take all shards away from NODE and end its hosts, so that it can be stopped.

    Reads and writes go on meanwhile. NODE is a name that `mrlstore cluster hosts` shows, or the beginning of
    one.

    \b
    Example:
      mrlstore cluster drain s3://bucket/papers node-b
    """
    with output.progress_bars(as_json=as_json) as progress:
        clusters.drain(home, node, undo=undo, timeout_s=timeout_s, progress=progress, options=options)
    print_view(clusters.hosts(home, options=options), as_json)


@click.command()
@home_argument
@storage_option
@json_option
def down(home: str, options: dict[str, Any] | None, as_json: bool) -> None:
    """End all hosts that Ray runs for a cluster. What was acknowledged is in object storage.

    \b
    Example:
      mrlstore cluster down s3://bucket/papers
    """
    ended = clusters.stop_hosts(home, options)
    if as_json:
        output.print_json({"home": home, "hosts_ended": ended})
    else:
        output.console().print(f"Ended {output.count_text(ended, 'host')} of {home}", soft_wrap=True)


def print_view(view: clusters.ClusterView, as_json: bool) -> None:
    """Print the hosts of a cluster."""
    if as_json:
        output.print_json({"copies": view.copies, "nodes": view.nodes, "hosts": plain_hosts(view)})
        return
    out = output.console()
    for host in view.hosts:
        state = "silent" if host.silent else "answers"
        restarts = output.count_text(host.restarts, "restart")
        out.print(f"host {host.number} on {host.node or '?'}: {state}, {restarts}", soft_wrap=True)
        for shard, there in sorted(host.shards.items()):
            role = f"writes, epoch {there.epoch:,}" if there.writes else "copy"
            lag = output.count_text(view.lag(host, shard), "place")
            out.print(
                f"  shard {shard}: {role}, log up to place {there.place:,}, {lag} behind", soft_wrap=True
            )


def plain_hosts(view: clusters.ClusterView) -> list[dict[str, Any]]:
    """The hosts of a view for JSON."""
    return [
        {
            "host": host.number,
            "node": host.node,
            "silent": host.silent,
            "restarts": host.restarts,
            "shards": [
                {"shard": shard, **there._asdict(), "lag": view.lag(host, shard)}
                for shard, there in sorted(host.shards.items())
            ],
        }
        for host in view.hosts
    ]


def _pair(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not (name and equals):
        raise click.BadParameter(f"{text!r} is not like disk=nvme", param_hint="--label")
    return name, value
