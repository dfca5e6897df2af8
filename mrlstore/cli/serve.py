"""`mrlstore serve`: the stores of a folder behind HTTP."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any, get_type_hints

import click

Decorated = Callable[..., Any]


def _server_options(function: Decorated) -> Decorated:
    """An option for each field of the server's config, where the extra is installed."""
    try:
        from mrlstore.server.config import ServerConfig
    except ImportError:  # `--help` of all commands; `serve` itself says what is missing
        return function
    kinds = get_type_hints(ServerConfig)
    for each in reversed(fields(ServerConfig)[1:]):
        kind, flag = kinds[each.name], kinds[each.name] is bool
        option = click.option(
            "--" + each.name.replace("_", "-"),
            each.name,
            is_flag=flag,
            default=None,
            type=None
            if flag
            else {int: int, int | None: int, Path | None: click.Path(path_type=Path)}.get(kind, str),
            metavar=each.metadata["metavar"],
            help=each.metadata["help"],
        )
        function = option(function)
    return function


@click.command()
@click.argument("root", required=False, type=click.Path(path_type=Path))
@_server_options
def serve(root: Path | None, **options: Any) -> None:
    """Serve the stores of the folder ROOT over HTTP.

    There are the APIs of Pinecone, Qdrant and Chroma, one of its own, and a console. The store papers.mrl
    in ROOT is the index papers. Every option can be given by the environment: --public-url is
    MRLSTORE_PUBLIC_URL, ROOT is MRLSTORE_ROOT. SIGTERM and Ctrl-C stop it, after requests that run are
    finished. Needs the extra: pip install 'mrlstore[server]'

    \b
    Examples:
      mrlstore serve stores/
      mrlstore serve stores/ --workers 4 --read-only
      mrlstore keys add keys.json --role write
      mrlstore serve stores/ --host 0.0.0.0 --api-keys keys.json --public-url https://vectors.example.org
    """
    from mrlstore.server.config import ServerConfig
    from mrlstore.server.workers import serve as run

    run(ServerConfig.from_environment(root=root, **options))
