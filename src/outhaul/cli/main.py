"""All commands in one, and how every one of them ends."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, NoReturn

import click
import msgspec

from outhaul import __version__
from outhaul.cli.apps import apps, credentials
from outhaul.cli.collect import collect
from outhaul.cli.collections import collections
from outhaul.cli.completion import completion
from outhaul.cli.config import config
from outhaul.cli.devices import devices, tags
from outhaul.cli.doctor import doctor
from outhaul.cli.exits import ERROR, INTERRUPTED, USAGE, exit_code
from outhaul.cli.export import export
from outhaul.cli.imports import imports
from outhaul.cli.options import Group
from outhaul.cli.output import painted
from outhaul.cli.people import people
from outhaul.cli.serve import serve
from outhaul.cli.stored import rejects, tables
from outhaul.cli.tokens import audit, tokens
from outhaul.errors import OuthaulError

if TYPE_CHECKING:
    from collections.abc import Sequence

_CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 110}


@click.group(cls=Group, context_settings=_CONTEXT)
@click.version_option(__version__, prog_name="outhaul")
def outhaul() -> None:
    """Haul the raw data of mobile apps out into storage of your own, with proof that it is complete.

    Example:
      outhaul serve --data ./data
      outhaul apps create shop --platform android --data ./data
      outhaul config set http://127.0.0.1:8080
      outhaul export create shop event --from 2026-11-01 --to 2026-12-01 --format parquet --wait
    """


for _command in (
    *(serve, apps, collections, credentials, tokens, tables, rejects, audit),
    *(export, imports, devices, tags, people, collect, config, doctor, completion),
):
    outhaul.add_command(_command)


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run one command and exit, with one of the codes of `exits.EXITS`."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    try:
        code = outhaul.main(words, prog_name="outhaul", standalone_mode=False)
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        sys.exit(USAGE)
    except click.UsageError as error:
        command = error.ctx.command_path if error.ctx else "outhaul"
        _fail("usage", error.format_message(), f"{command} --help", words, USAGE)
    except click.exceptions.Abort:
        sys.exit(INTERRUPTED)
    except OuthaulError as error:
        _fail(error.code, error.message, error.hint, words, exit_code(error), error.request_id)
    except BrokenPipeError:
        # Whoever reads our output has seen enough, as `| head` does; Python would complain once more at exit.
        sys.stdout = None
        sys.exit(0)
    except (OSError, click.ClickException) as error:
        _fail("system", str(error), "Check that the path exists and may be read and written.", words, ERROR)
    sys.exit(code if isinstance(code, int) else 0)


def _fail(
    code: str, message: str, hint: str, words: list[str], exit_with: int, request_id: str | None = None
) -> NoReturn:
    if "--json" in words:
        error = {"code": code, "message": message, "hint": hint, "requestId": request_id}
        click.echo(msgspec.json.encode({"error": error}), err=True)
    else:
        click.echo(f"{painted('Error:', 'fail', sys.stderr)} {message}", err=True)
        if hint:
            click.echo(f"{painted('Try:', 'ok', sys.stderr)} {hint}", err=True)
    sys.exit(exit_with)
