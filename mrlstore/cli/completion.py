"""The command that completes the others: completion."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from mrlstore.cli import output
from mrlstore.cli.options import json_option

SHELLS = ("bash", "zsh", "fish")


@click.command()
@click.argument("shell", type=click.Choice(SHELLS))
@json_option
@click.pass_context
def completion(context: click.Context, shell: str, as_json: bool) -> None:
    """Print what makes SHELL complete commands and options.

    \b
    Examples:
      mrlstore completion bash > ~/.local/share/bash-completion/completions/mrlstore
      mrlstore completion zsh > ~/.zfunc/_mrlstore
      mrlstore completion fish > ~/.config/fish/completions/mrlstore.fish
    """
    kind = get_completion_class(shell)
    assert kind is not None  # click has these three
    script = kind(context.find_root().command, {}, "mrlstore", "_MRLSTORE_COMPLETE").source()
    if as_json:
        output.print_json({"shell": shell, "script": script})
    else:
        click.echo(script)
