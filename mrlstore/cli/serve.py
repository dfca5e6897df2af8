"""`mrlstore serve`: the stores of a folder behind HTTP."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_type_hints

import click

from mrlstore.cli.output import count_text

if TYPE_CHECKING:
    from mrlstore.server.config import ServerConfig

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

    The server has the APIs of Pinecone, Qdrant and Chroma, one of its own, and a console at /console. The
    store papers.mrl in ROOT is the index papers. Every option is also an environment variable: --public-url
    is MRLSTORE_PUBLIC_URL, and ROOT is MRLSTORE_ROOT. SIGTERM and Ctrl-C stop the server when the running
    requests are finished. It needs an extra: pip install 'mrlstore[server]'

    \b
    Examples:
      mrlstore serve stores/
      mrlstore serve stores/ --workers 4 --read-only
      mrlstore keys add keys.json --role write
      mrlstore serve stores/ --host 0.0.0.0 --api-keys keys.json --public-url https://vectors.example.org
    """
    from mrlstore.server.config import ServerConfig
    from mrlstore.server.workers import serve as run

    config = ServerConfig.from_environment(root=root, **options)
    if not (config.root / "catalogue.db").exists():  # a store is refused as ROOT
        click.echo(_greeting(config), err=True)
    run(config)


def _greeting(config: ServerConfig) -> str:
    """What is served, and at which address a browser and clients find it."""
    host = f"[{config.host}]" if ":" in config.host else config.host
    url = config.public_url or f"http{'s' if config.tls else ''}://{host}:{config.port}"
    stores = len(list(config.root.glob("*.mrl"))) if config.root.is_dir() else 0
    found = (
        f"{count_text(stores, 'store')} in {config.root}" if stores else f"{config.root}, without a store yet"
    )
    return f"Serving {found} at {url}; the console is at {url.rstrip('/')}/console"
