"""The command `mrlstore demo`: choose its folder, run the demonstration, and suggest further commands."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from pathlib import Path

import click

from mrlstore.cli import output
from mrlstore.cli.options import json_option


@click.command()
@click.option(
    "--keep",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="FOLDER",
    help="Keep the store and the embedder in this folder, to go on with.",
)
@click.option(
    "--limit", type=click.IntRange(min=10), metavar="N", help="Take only N docstrings, for a quick look."
)
@json_option
def demo(keep: Path | None, limit: int | None, as_json: bool) -> None:
    """Search the documentation that comes with Python.

    Collects the docstrings of the standard library, embeds them at 3,072 dimensions without key or
    network, stores and indexes them, asks questions, asks again from a new process, and compares the
    searched prefix, the whole vectors and two stages. Needs the extra `demo`; takes about a minute.

    \b
    Examples:
      mrlstore demo
      mrlstore demo --keep mrlstore-demo
    """
    from mrlstore.cli.demo.demonstration import Demo

    folder = keep or Path(tempfile.mkdtemp(prefix="mrlstore-demo-"))
    try:
        folder.mkdir(parents=True, exist_ok=True)
        found = Demo(folder, limit, output.errors() if as_json else output.console()).run()
        if as_json:
            output.print_json(found)
        elif keep:
            _print_next_commands(folder)
    finally:
        if not keep:
            shutil.rmtree(folder, ignore_errors=True)


def _print_next_commands(folder: Path) -> None:
    program = Path(sys.argv[0])
    name = os.path.relpath(program) if program.name == "mrlstore" else "mrlstore"
    out = output.console()
    out.print("\nNow ask it something yourself:", style="bold")
    store = folder / "stdlib.mrl"
    out.print(f'  {name} query {store} "sort a list"', soft_wrap=True)
    out.print(f"  {name} query {store} --keywords '\"ISO 8601\" pars*'", soft_wrap=True)
    out.print(f"  {name} stats {store}", soft_wrap=True)
