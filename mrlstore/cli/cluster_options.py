"""The arguments and options that several of the commands `mrlstore cluster ...` share."""

from __future__ import annotations

from pathlib import Path

import click

home_argument = click.argument("home")
folder_option = click.option(
    "--folder",
    type=click.Path(path_type=Path, file_okay=False),
    help="Where the copies of the shards lie; by default a temporary folder.",
)
timeout_option = click.option(
    "--timeout", "timeout_s", default=600.0, show_default=True, metavar="SECONDS", help="How long to wait."
)
