"""The group of all commands, and the one place that turns their failures into messages and exit codes."""

from __future__ import annotations

import os
import sys
import warnings
from typing import Any

import click

from mrlstore.cli import (
    calibrate,
    care,
    completion,
    embed,
    failures,
    migrate_command,
    output,
    read,
    show,
    tier_report,
    transfer,
    write,
)
from mrlstore.cli.demo import command as demo
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
  mrlstore migrate papers.mrl chroma:chroma_data
  mrlstore add    papers.mrl papers/ --embedder gemini
  mrlstore query  papers.mrl --id paper-17 -k 5
  mrlstore query  papers.mrl --vector question.npy --where '{{"year": {{"$gte": 2020}}}}'
  mrlstore get    papers.mrl paper-17
  mrlstore delete papers.mrl --where '{{"year": {{"$lt": 2000}}}}' --dry-run
  mrlstore stats  papers.mrl --json

\b
A row in a JSONL file is one line like
  {{"id": "paper-17", "vector": [0.1, ...], "metadata": {{"year": 2021}}, "document": "On ..."}}

Every command takes --json and then prints one JSON value. Progress is shown on a terminal only.

{failures.EXIT_CODES}"""


@click.group(
    help=HELP,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)
@click.version_option(__version__, "-V", "--version", prog_name="mrlstore", message="%(prog)s %(version)s")
def app() -> None:
    """Group the commands; each does its own work."""


for _command in (
    write.create,
    transfer.import_,
    transfer.export,
    migrate_command.migrate_,
    embed.add,
    embed.re_embed_,
    read.query,
    read.get,
    write.update,
    write.delete,
    read.scan,
    read.count,
    show.stats,
    show.info,
    tier_report.tiers,
    calibrate.calibrate,
    calibrate.set_prefix_dim,
    calibrate.set_graph,
    care.optimize,
    care.verify,
    care.repair,
    care.backup,
    demo.demo,
    completion.completion,
):
    app.add_command(_command)


def run(arguments: list[str]) -> int:
    """Run one command line; failures become one line on stderr and an exit code."""
    output.escape_what_cannot_be_encoded()
    with warnings.catch_warnings():
        warnings.showwarning = _show_warning
        try:
            code = app.main(args=arguments or ["--help"], prog_name="mrlstore", standalone_mode=False)
            sys.stdout.flush()
        except BrokenPipeError:
            # The reader of our output, such as head, has closed it; nothing more can be written.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return failures.DONE
        except click.exceptions.Exit as exit_:
            return exit_.exit_code
        except failures.EXPECTED as error:
            return failures.report(error, as_json="--json" in arguments)
    return code if isinstance(code, int) else failures.DONE


def _show_warning(message: Warning | str, category: type[Warning], *_: Any, **__: Any) -> None:
    print(f"mrlstore: warning: {output.safe_line(str(message))}", file=sys.stderr)
