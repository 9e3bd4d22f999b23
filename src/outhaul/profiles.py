"""Profiles: which server the command line and the SDK talk to, as whom, kept in a config file.

    [profiles.default]
    url = "https://outhaul.example.com"
    token = "outhaul_…"

The file is `$XDG_CONFIG_HOME/outhaul/config.toml`, or `~/.config/outhaul/config.toml`, or the one that `OUTHAUL_CONFIG`
names; only its owner may read it. `OUTHAUL_PROFILE` chooses a profile, `OUTHAUL_URL` and `OUTHAUL_TOKEN` win over it.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import tomllib
from pathlib import Path
from urllib.parse import urlsplit

import msgspec
from msgspec import Struct

from outhaul import config
from outhaul.durable import sync
from outhaul.errors import Invalid, NotFound

DEFAULT = "default"
"""The profile that is used when none is named."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
_TOKEN = re.compile(r"[\x21-\x7e]+")


class Profile(Struct, frozen=True):
    """A server, and the token for it; either may be empty where it is not known."""

    name: str
    url: str
    token: str

    def __repr__(self) -> str:
        return f"Profile({self.name!r}, {self.url!r}, …)"


class _Saved(Struct, frozen=True):
    url: str = ""
    token: str = ""


class _File(Struct, frozen=True):
    profiles: dict[str, _Saved] = {}


def path() -> Path:
    """Where the config file is, or would be."""
    if named := config.variable("OUTHAUL_CONFIG"):
        return Path(named).expanduser()
    base = config.variable("XDG_CONFIG_HOME")
    # A relative one is to be ignored (XDG Base Directory Specification).
    folder = Path(base) if base.startswith("/") else Path.home() / ".config"
    return folder / "outhaul" / "config.toml"


def chosen(name: str | None) -> str:
    """The name of the profile that is meant: the one named, else that of `OUTHAUL_PROFILE`, else `default`."""
    return name or config.variable("OUTHAUL_PROFILE") or DEFAULT


def load(name: str | None = None, url: str = "") -> Profile:
    """The profile that is in force; `url` is another server to talk to, which wins over everything.

    A token from the file is for the server that is beside it there: with another URL it is left out, so that no
    server is shown another's token.

    Raises:
        NotFound: a profile was named, and there is none.
        Invalid: the file or the URL cannot be understood.
    """
    wanted = chosen(name)
    kept = _read().get(wanted)
    if kept is None and (name or config.variable("OUTHAUL_PROFILE")):
        raise _missing(wanted)
    kept = kept or _Saved()
    own = checked_url(kept.url) if kept.url else ""
    other = url or config.variable("OUTHAUL_URL")
    used = checked_url(other) if other else own
    token = config.variable("OUTHAUL_TOKEN") or (kept.token if used == own else "")
    return Profile(wanted, used, token)


def saved(name: str) -> Profile:
    """A profile as it is in the file.

    Raises:
        NotFound: there is none of that name.
        Invalid: the file cannot be understood.
    """
    found = _read().get(name)
    if found is None:
        raise _missing(name)
    return Profile(name, found.url, found.token)


def names() -> list[str]:
    """The names of all profiles in the file, sorted.

    Raises:
        Invalid: the file cannot be understood.
    """
    return sorted(_read())


def save(profile: Profile) -> None:
    """Put a profile into the file, in the place of one of the same name.

    Raises:
        Invalid: its name, URL or token is none, or the file cannot be understood.
    """
    if not _NAME.fullmatch(profile.name):
        raise Invalid(
            f"A profile cannot be called {profile.name[:80]!r}.",
            hint="Use 1 to 64 letters, digits, dashes or underscores, starting with a letter or digit.",
        )
    _write(_read() | {profile.name: _Saved(checked_url(profile.url), checked_token(profile.token))})


def remove(name: str) -> None:
    """Take a profile out of the file.

    Raises:
        NotFound: there is none of that name.
        Invalid: the file cannot be understood.
    """
    profiles = _read()
    if name not in profiles:
        raise _missing(name)
    del profiles[name]
    _write(profiles)


def checked_url(url: str) -> str:
    """A server's base URL in one spelling.

    Raises:
        Invalid: it is none, or holds a user, a query or a fragment, which may be secret and are of no use here.
    """
    # The API's own address, as its description names it, is below the base URL.
    text = url.strip().rstrip("/").removesuffix("/api/v1").rstrip("/")
    try:
        parts = urlsplit(text)
        host, _ = parts.hostname, parts.port
    except ValueError:
        host = None
    plain = host and text.isprintable() and " " not in text and not set("@?#\\") & set(text)
    if not plain or parts.scheme not in {"http", "https"}:
        raise Invalid(
            "The server's URL is not of the form http://host:port or https://host.",
            hint="Begin with http:// or https://, and leave keys, queries and user names out of it.",
        )
    return text


def checked_token(token: str) -> str:
    """A token as it can be sent, without the line end that it has when it is read from a file.

    Raises:
        Invalid: it is none; a request could not be made with it, and an error about that request would show it.
    """
    text = token.strip()
    if not _TOKEN.fullmatch(text):
        raise Invalid(
            "The token is not one: it is empty, or has characters that no token has.",
            hint="Give the whole secret that `outhaul tokens create` printed, on one line.",
        )
    return text


def _missing(name: str) -> NotFound:
    return NotFound(
        f"There is no profile {name[:80]!r} in {path()}.",
        hint=f"`outhaul config set URL --profile {name[:80]}` makes it; `outhaul config list` shows what exists.",
    )


def _read() -> dict[str, _Saved]:
    file = path()
    try:
        text = file.read_text(encoding="utf-8")
    except FileNotFoundError:
        return {}
    try:
        return dict(msgspec.convert(tomllib.loads(text), _File).profiles)
    except (tomllib.TOMLDecodeError, msgspec.ValidationError) as error:
        # Neither repeats a value: the one says line and column, the other the type that was expected.
        raise Invalid(
            f"The config file {file} cannot be understood: {error}.",
            hint="Mend it, or remove it and run `outhaul config set` again.",
        ) from None


def _write(profiles: dict[str, _Saved]) -> None:
    # What JSON calls a string, TOML does too, as long as there is no DEL in it; names need no quotes.
    text = "\n".join(
        f"[profiles.{name}]\nurl = {_quoted(profiles[name].url)}\ntoken = {_quoted(profiles[name].token)}\n"
        for name in sorted(profiles)
    )
    file = path()
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    fresh = file.with_name(f"{file.name}.{secrets.token_hex(4)}")
    try:
        with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as opened:
            opened.write(text.encode())
        sync(fresh)
        fresh.replace(file)
    finally:
        with contextlib.suppress(FileNotFoundError):
            fresh.unlink()
    sync(file.parent)


def _quoted(text: str) -> str:
    return msgspec.json.encode(text).decode()
