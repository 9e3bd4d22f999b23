"""Where files go to or come from, as options of a command: secrets are read where others cannot see them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Generic, TypeVar
from urllib.parse import urlsplit

import click
import msgspec

from outhaul.config import variable
from outhaul.errors import Invalid
from outhaul.wire import Destination, Source

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TextIO

P = TypeVar("P", bound=Destination)
R = TypeVar("R")


class Place(Generic[P]):
    """Options for a place that is called `name`; `help_text` says what it is, `page` shows its members."""

    def __init__(self, name: str, shape: type[P], help_text: str, page: str) -> None:
        self._name = name
        self._shape = shape
        self._page = page
        self._secrets = f"--{name}-env or --{name}-file"
        self.choices: tuple[Callable[..., Any], ...] = (
            click.option(f"--{name}", metavar="URL", help=help_text),
            click.option(
                f"--{name}-env",
                metavar="NAME",
                help=f"The environment variable that holds a {name}'s secrets.",
            ),
            click.option(
                f"--{name}-file",
                type=click.File(encoding="utf-8"),
                help=f"A file that does, or - for standard input: a URL with its token, or the JSON of a {name}.",
            ),
        )

    def options(self, command: Callable[..., R]) -> Callable[..., R]:
        """Give a command the options."""
        for choice in reversed(self.choices):
            command = choice(command)
        return command

    def read(self, options: dict[str, Any]) -> str | P | None:
        """The place that the options give; they are taken out.

        Raises:
            UsageError: several are given, or one holds a secret where others can see it.
            Invalid: it is none.
        """
        url, name, file = (options.pop(f"{self._name}{option}") for option in ("", "_env", "_file"))
        if sum(value is not None for value in (url, name, file)) > 1:
            raise click.UsageError(
                f"Only one of --{self._name}, {self._secrets.replace(' or', ' and')} can be given."
            )
        if url is not None:
            return self._shown(url)
        if name is not None:
            return self._secret(variable(name), f"The environment variable {name}")
        return None if file is None else self._read(file)

    def missing(self) -> click.UsageError:
        """What is wrong where one has to be given."""
        return click.UsageError(f"There is no {self._name}: give --{self._name}, {self._secrets}.")

    def _shown(self, url: str) -> str:
        try:
            secret = "?" in url or "@" in urlsplit(url).netloc
        except ValueError:
            secret = True
        if secret:
            raise click.UsageError(
                f"--{self._name} has a query or a user name: on a command line, others can see it. Use {self._secrets}."
            )
        return url

    def _read(self, file: TextIO) -> str | P:
        try:
            return self._secret(file.read(), f"The file {file.name}")
        except UnicodeDecodeError:
            raise Invalid(f"The file {file.name} is not text.", hint="It takes UTF-8.") from None

    def _secret(self, given: str, where: str) -> str | P:
        text = given.strip()
        if not text:
            raise Invalid(
                f"{where} holds no {self._name}.",
                hint=f"It takes a URL with its token, or the JSON of a {self._name}.",
            )
        if not text.startswith("{"):
            return text
        try:
            return msgspec.json.decode(text, type=self._shape)
        except msgspec.DecodeError as error:
            # It names members and types, never values.
            raise Invalid(
                f"{where} is not the JSON of a {self._name}: {error}.",
                hint=f"{self._page} shows its members.",
            ) from None


DESTINATION = Place(
    "destination", Destination, "Where to. Without any: the server keeps the files.", "docs/exports.md"
)
SOURCE = Place("source", Source, "The file, where the server can read it.", "docs/imports.md")
