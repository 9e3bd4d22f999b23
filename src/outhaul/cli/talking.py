"""Users' commands talk to a server: which one, as whom, and for how long they try."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any, TypeVar

from outhaul import profiles
from outhaul.cli.options import profile_option, url_option
from outhaul.client import Client, Retries
from outhaul.errors import Invalid, Unauthenticated

if TYPE_CHECKING:
    from collections.abc import Callable

R = TypeVar("R")

QUICK = Retries(patience_s=3)
"""For whoever sits in front of a terminal."""
STEADY = Retries(patience_s=20)
"""For whoever begins to wait: longer than a server takes to start again. Waiting itself is more patient still."""
PATIENT = Retries(patience_s=600)
"""For fetching files, which takes long anyway: a server that is started again meanwhile is waited for."""


def talks(retries: Retries) -> Callable[[Callable[..., R]], Callable[..., R]]:
    """Give a command the options that say which server it talks to, and hand it the client first."""

    def decorate(command: Callable[..., R]) -> Callable[..., R]:
        @profile_option
        @url_option
        @functools.wraps(command)
        def talking(*args: Any, profile: str | None, url: str | None, **kwargs: Any) -> R:
            with connect(profile, url, retries) as client:
                return command(client, *args, **kwargs)

        return talking

    return decorate


def connect(name: str | None, url: str | None, retries: Retries) -> Client:
    """A client for the server that a profile or the environment names.

    Raises:
        Invalid: no server is known.
        NotFound: there is no such profile.
        Unauthenticated: there is no token for the server.
    """
    profile = profiles.load(name, url or "")
    if not profile.url:
        raise Invalid(
            "It is not known which server to talk to.",
            hint="outhaul config set https://outhaul.example.com",
        )
    if not profile.token:
        raise Unauthenticated(
            f"There is no token for {profile.url}.",
            hint=f"outhaul config set {profile.url} --profile {profile.name}, or set OUTHAUL_TOKEN.",
        )
    return Client(profile.url, profile.token, retries=retries)
