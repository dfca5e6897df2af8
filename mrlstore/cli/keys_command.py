"""`mrlstore keys`: the keys of a server: made, listed, revoked."""

from __future__ import annotations

from pathlib import Path

import click

from mrlstore.cli import output
from mrlstore.cli.options import json_option


@click.group()
def keys() -> None:
    """Make, list and revoke the keys of a server.

    FILE holds the hashes of the keys; give it to `mrlstore serve --api-keys`. A running server notices a
    change at its next request.

    \b
    Examples:
      mrlstore keys add keys.json --role write --name "search service"
      mrlstore keys add keys.json --role read --index papers --namespace public
      mrlstore keys list keys.json
      mrlstore keys revoke keys.json 1a2b3c4d
    """


_file = click.argument("file", type=click.Path(path_type=Path, dir_okay=False))


@keys.command()
@_file
@click.option(
    "--role",
    type=click.Choice(["read", "write", "admin"]),
    default="read",
    show_default=True,
    help="read: search and read; write: also write rows; admin: also create and delete indexes.",
)
@click.option("--name", default="", metavar="TEXT", help="A note for people.")
@click.option("--index", "indexes", multiple=True, metavar="NAME", help="Only this index; may be repeated.")
@click.option(
    "--namespace", "namespaces", multiple=True, metavar="NAME", help="Only this namespace; may be repeated."
)
@json_option
def add(
    file: Path, role: str, name: str, indexes: tuple[str, ...], namespaces: tuple[str, ...], as_json: bool
) -> None:
    """Make a key and print it, once only. FILE is created if it does not exist."""
    from mrlstore.server.api_keys import add_key

    key, entry = add_key(file, role, name=name, indexes=indexes or None, namespaces=namespaces or None)
    if as_json:
        output.print_json({"key": key, "id": entry.id, "role": entry.role})
    else:
        output.print_line(key)
        output.errors().print(
            f"Key {entry.id} ({entry.role}). It is not stored anywhere: keep it now.", soft_wrap=True
        )


@keys.command("list")
@_file
@json_option
def list_keys(file: Path, as_json: bool) -> None:
    """Show the keys by their ids, never the keys themselves."""
    from mrlstore.server.api_keys import read_keys

    found = read_keys(file)
    if as_json:
        shown = ("id", "name", "role", "created", "indexes", "namespaces")
        output.print_json([{name: getattr(key, name) for name in shown} for key in found])
        return
    if not found:
        state = "has no keys" if file.exists() else "does not exist: `mrlstore keys add` makes it"
        output.errors().print(f"{file} {state}", soft_wrap=True)
    for key in found:
        parts = [key.id, key.role, key.created, key.name]
        parts += [f"indexes {', '.join(key.indexes)}"] if key.indexes is not None else []
        parts += [f"namespaces {', '.join(key.namespaces)}"] if key.namespaces is not None else []
        output.print_line("  ".join(parts))


@keys.command()
@_file
@click.argument("key_id", metavar="ID")
@json_option
def revoke(file: Path, key_id: str, as_json: bool) -> None:
    """Take the key with this ID out of FILE."""
    from mrlstore.server.api_keys import revoke_key

    entry = revoke_key(file, key_id)
    if as_json:
        output.print_json({"revoked": entry.id})
    else:
        output.print_line(f"Revoked {entry.id} ({entry.role})")
