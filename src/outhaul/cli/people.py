"""`outhaul people`: what is asked about a person, a user or a device, put together from the modules that hold it."""

from __future__ import annotations

import click

from outhaul.cli import erasures, history
from outhaul.cli.options import Group


@click.group(cls=Group)
def people() -> None:
    """A user or a device, everything about them: show it, export it, erase it.

    Example:
      outhaul people records shop --user ada
    """


_COMMANDS: tuple[click.Command, ...] = (*history.COMMANDS, *erasures.COMMANDS)
"""Each is written with `@click.command("name", cls=Command)` in a module of its own, and named here."""
for _command in _COMMANDS:
    people.add_command(_command)
