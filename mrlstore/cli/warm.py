"""`mrlstore warm`: what a machine or an image needs for fast first answers."""

from __future__ import annotations

import os
from pathlib import Path

import click

import mrlstore
from mrlstore.cli import output
from mrlstore.cli.options import json_option
from mrlstore.kernels.prepare import prepare


@click.command()
@click.argument("store", required=False, type=click.Path(path_type=Path))
@json_option
def warm(store: Path | None, as_json: bool) -> None:
    """Get ready for fast first answers.

    Compiles the search kernels where no machine code of the package fits this processor, for about
    half a minute, and keeps them for later processes in MRLSTORE_CACHE_DIR, else in ~/.cache/mrlstore.
    With STORE its codes and graphs are also read into memory.

    \b
    Examples:
      mrlstore warm
      mrlstore warm papers.mrl
    """
    found = prepare()
    if store is not None:
        with mrlstore.open(store, mode="r") as opened:
            opened.warm()
    if as_json:
        folder = None if found.folder is None else os.fspath(found.folder)
        output.print_json({"level": found.level, "cache": folder})
    elif found.level is not None:
        output.print_line(f"The package has machine code for this processor ({found.level}).")
    elif found.folder is not None:
        output.print_line(f"The kernels lie compiled in {found.folder}.")
    else:
        output.print_line(
            "The kernels were compiled, but no cache folder can be written: later processes compile "
            "them again. MRLSTORE_CACHE_DIR names a folder for them."
        )
