"""`outhaul completion`: the script that makes a shell complete our commands."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from outhaul.cli.options import Command

_VARIABLE = "_OUTHAUL_COMPLETE"
"""How the script asks for what could follow; click makes it from the program's name."""


@click.command(cls=Command)
@click.argument("shell", type=click.Choice(("bash", "zsh", "fish")))
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    """Print the script that completes what is typed in SHELL.

    Example:
      outhaul completion bash >> ~/.bashrc
      outhaul completion zsh > "${fpath[1]}/_outhaul"
      outhaul completion fish > ~/.config/fish/completions/outhaul.fish
    """
    made = get_completion_class(shell)
    assert made is not None, shell  # noqa: S101  click has all that may be chosen
    click.echo(made(context.find_root().command, {}, "outhaul", _VARIABLE).source())
