"""The commands that describe a store: stats (rows, index, bytes) and info (settings, software)."""

from __future__ import annotations

import os
import platform
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

import click
from rich.console import Group
from rich.panel import Panel
from rich.text import Text

import mrlstore
from mrlstore.cli import output
from mrlstore.cli.options import json_option, store_argument
from mrlstore.cli.safe_text import safe_line
from mrlstore.types import Stats

KINDS: Final = {
    "base": "vectors",
    "index": "graph and codes",
    "columns": "columns, texts",
    "catalogue": "catalogue",
    "other": "other",
}
PACKAGES: Final = ("numpy", "numba", "apsw", "hnswlib", "scikit-learn", "google-genai")


@click.command()
@store_argument
@json_option
def stats(store: Path, as_json: bool) -> None:
    """Show the rows, index and bytes of a store.

    \b
    Examples:
      mrlstore stats papers.mrl
      mrlstore stats papers.mrl --json
    """
    with mrlstore.open(store, mode="r") as opened:
        found = opened.stats()
    if as_json:
        output.print_json(asdict(found))
        return
    title = Text(f"{safe_line(Path(found.path).name)} · generation {found.generation:,}")
    body = Group(_rows(found), "", _disk(found), *_advice(found))
    output.console().print(Panel(body, title=title, title_align="left", expand=False, padding=(1, 2)))


def _rows(found: Stats) -> Any:
    table = output.facts_table()
    spread = f" in {output.count_text(found.namespaces, 'namespace')}" if found.namespaces > 1 else ""
    bare = f", {found.rows_without_vector:,} without a vector" if found.rows_without_vector else ""
    table.add_row("rows", f"{found.rows:,}{spread}{bare}")
    if found.dim:
        stages = f", searched by the first {found.prefix_dim:,}" if found.prefix_dim != found.dim else ""
        table.add_row("vectors", f"{found.dim:,} dims{stages}")
    stored = found.rows - found.rows_without_vector
    share = min(found.indexed_rows / stored, 1.0) if stored else 0.0
    table.add_row("in a graph", f"{output.share_bar(share)} {share:.0%}  {found.indexed_rows:,} rows")
    if found.graph != "mrlstore" or set(found.rows_by_graph) - {found.graph}:
        others = {name: rows for name, rows in found.rows_by_graph.items() if name != found.graph}
        parts = [found.graph, *(f"{rows:,} rows by {name}" for name, rows in others.items())]
        table.add_row("graphs by", ", ".join(parts))
    flat = f", {found.flat_segments} of them flat (scanned)" if found.flat_segments else ""
    table.add_row("segments", f"{found.segments}{flat}")
    table.add_row("tail", output.count_text(found.tail_rows, "row"))
    table.add_row("dead rows", f"{found.dead_rows:,}")
    table.add_row("damaged parts", f"{found.damaged_parts}" if found.damaged_parts else "none")
    return table


def _disk(found: Stats) -> Any:
    table = output.facts_table()
    table.add_column(justify="right")
    table.add_column()
    for kind, name in KINDS.items():
        size = found.bytes_by_kind.get(kind, 0)
        if size:
            share = size / max(found.bytes_on_disk, 1)
            each = output.bytes_text(size / found.rows) + " a row" if found.rows else ""
            table.add_row(name, output.share_bar(share), output.bytes_text(size), each)
    each = output.bytes_text(found.bytes_on_disk / found.rows) + " a row" if found.rows else ""
    table.add_row("on disk", "", output.bytes_text(found.bytes_on_disk), each)
    if found.bytes_reclaimable:
        table.add_row("reclaimable", "", output.bytes_text(found.bytes_reclaimable), "")
    return table


def _advice(found: Stats) -> list[str]:
    """What a person might do next; empty if there is nothing to do."""
    advice = []
    if found.damaged_parts:
        advice.append(f"Damage is being worked around; mrlstore verify {found.path} says where.")
    if found.bytes_reclaimable > found.bytes_on_disk // 4 or found.flat_segments:
        advice.append(f"mrlstore optimize {found.path} indexes every row and gives space back.")
    return ["", *advice] if advice else []


@click.command()
@click.argument("store", required=False, type=click.Path(path_type=Path))
@json_option
def info(store: Path | None, as_json: bool) -> None:
    """Show the settings of a store, and the software.

    Without STORE, the software alone.

    \b
    Examples:
      mrlstore info
      mrlstore info papers.mrl
    """
    found: dict[str, Any] = {"software": _software()}
    if store is not None:
        with mrlstore.open(store, mode="r") as opened:
            found = {
                "path": os.fspath(store),
                "settings": asdict(opened.settings) | {"embedder": opened.embedder_fingerprint},
                "namespaces": opened.namespaces(),
                **found,
            }
    if as_json:
        output.print_json(found)
        return
    blocks: list[Any] = []
    if store is not None:
        blocks += [_facts(found["settings"]), "", "Namespaces", _facts(_named(found["namespaces"])), ""]
        blocks.append("Software")
    blocks.append(_facts(found["software"]))
    title = Text(safe_line(store.name) if store else "mrlstore")
    output.console().print(
        Panel(Group(*blocks), title=title, title_align="left", expand=False, padding=(1, 2))
    )


def _software() -> dict[str, str]:
    import importlib.metadata

    found = {"mrlstore": mrlstore.__version__, "python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = "not installed"
    return {**found, "system": f"{platform.system()} {platform.machine()}", "cores": str(os.cpu_count())}


def _named(namespaces: dict[str, int]) -> dict[str, str]:
    named = {name or "(unnamed)": output.count_text(rows, "row") for name, rows in namespaces.items()}
    return named or {"none": ""}


def _facts(values: dict[str, Any]) -> Any:
    table = output.facts_table()
    for name, value in values.items():
        table.add_row(name, "not set yet" if value is None else str(value))
    return table
