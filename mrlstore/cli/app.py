"""The group of all commands, and the one place that turns their failures into messages and exit codes."""

from __future__ import annotations

import difflib
import os
import sys
import warnings
from importlib import import_module
from typing import Any, Final

import click

from mrlstore.cli import failures, output
from mrlstore.cli.remarks import logged_warnings_printed, print_warning, store_named_by
from mrlstore.version import __version__

HELP = f"""A vector store for Matryoshka embeddings in one folder on disk.

\b
Try:
  mrlstore demo
\b
Examples:
  mrlstore create papers.mrl --dim 3072
  mrlstore import papers.mrl rows.jsonl
  mrlstore import papers.mrl rows.parquet --name vector=embedding
  mrlstore export papers.mrl papers.parquet
  mrlstore migrate papers.mrl chroma_data/
  mrlstore add    notes.mrl notes/
  mrlstore query  notes.mrl "why are there tides"
  mrlstore query  papers.mrl --id paper-17 -k 5
  mrlstore query  papers.mrl --vector question.npy --where '{{"year": {{"$gte": 2020}}}}'
  mrlstore get    papers.mrl paper-17
  mrlstore delete papers.mrl --where '{{"year": {{"$lt": 2000}}}}' --dry-run
  mrlstore stats  papers.mrl --json
  mrlstore serve  stores/ --port 5080

\b
A row in a JSONL file is one line like
  {{"id": "paper-17", "vector": [0.1, ...], "metadata": {{"year": 2021}}, "document": "On ..."}}

Every command except serve takes --json, and then prints one JSON value. Progress is shown only on a terminal.

{failures.EXIT_CODES}"""


# The module of each command, imported when it is called: `count` waits for no other command's packages.
COMMANDS: Final = {
    "create": "write",
    "import": "transfer",
    "export": "transfer",
    "export-hnswlib": "transfer",
    "migrate": "migrate_command",
    "add": "embed",
    "re-embed": "embed",
    "query": "ask",
    "get": "read",
    "update": "write",
    "delete": "write",
    "scan": "read",
    "count": "read",
    "facets": "browse",
    "sample": "browse",
    "duplicates": "duplicates",
    "stats": "show",
    "info": "show",
    "tiers": "tier_report",
    "calibrate": "calibrate",
    "set-prefix-dim": "calibrate",
    "set-graph": "calibrate",
    "optimize": "care",
    "verify": "care",
    "repair": "care",
    "backup": "care",
    "ship": "ship_command",
    "restore": "ship_command",
    "cluster": "cluster_command",
    "warm": "warm",
    "serve": "serve",
    "keys": "keys_command",
    "demo": "demo.command",
    "completion": "completion",
}

GROUPS: Final = ("cluster", "keys")


class LazyGroup(click.Group):
    """A group whose commands are imported when they are named; `--help` imports all of them."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The names of all commands, sorted."""
        return sorted(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of this name, or None."""
        if cmd_name not in COMMANDS:
            return None
        module = import_module(f"mrlstore.cli.{COMMANDS[cmd_name]}")
        return next(
            value
            for value in vars(module).values()
            if isinstance(value, click.Command) and value.name == cmd_name
        )

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command that is named; the message about an unknown name suggests the nearest one."""
        if args[0] not in COMMANDS and not args[0].startswith("-"):
            near = difflib.get_close_matches(args[0], COMMANDS, 1)
            hint = f" Did you mean {near[0]!r}?" if near else ""
            ctx.fail(f"No such command {args[0]!r}.{hint}")
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command. A closed pipe is left to `run`: click would end the process with exit code 1."""
        try:
            return super().invoke(ctx)
        except BrokenPipeError as error:
            raise BrokenPipeError from error  # without an errno, by which click knows it


@click.group(
    cls=LazyGroup,
    help=HELP,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)
@click.version_option(__version__, "-V", "--version", prog_name="mrlstore", message="%(prog)s %(version)s")
def app() -> None:
    """Group the commands; each does its own work."""


def _or_help(arguments: list[str]) -> list[str]:
    """The arguments; with --help where they name no command, or a group of commands and none of these."""
    return [*arguments, "--help"] if arguments in ([], *([name] for name in GROUPS)) else arguments


def run(arguments: list[str]) -> int:
    """Run one command line; failures become one line on stderr and an exit code."""
    output.escape_what_cannot_be_encoded()
    store = store_named_by(arguments)
    with warnings.catch_warnings(), logged_warnings_printed(store):
        warnings.showwarning = lambda message, *_, **__: print_warning(str(message), store)
        try:
            code = app.main(args=_or_help(arguments), prog_name="mrlstore", standalone_mode=False)
            sys.stdout.flush()
        except BrokenPipeError:
            # The reader of our output, such as head, has closed it; nothing more can be written.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return failures.DONE
        except click.exceptions.Exit as exit_:
            return exit_.exit_code
        except failures.EXPECTED as error:
            return failures.report(error, store, as_json="--json" in arguments)
    return code if isinstance(code, int) else failures.DONE
