"""Page tokens: where a page of a list ended, sealed, so that nobody builds on what is in one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, TypeVar

import msgspec
from msgspec import Meta

from outhaul.errors import Invalid

if TYPE_CHECKING:
    from outhaul.keys import Keyring

T = TypeVar("T")

PageSize = Annotated[int, Meta(ge=1, le=200, description="How many entries a page holds at most.")]
PageToken = Annotated[str, Meta(max_length=1024, description="`nextPageToken` of the page before.")]
DEFAULT_SIZE = 50


def page_token(keyring: Keyring, end: msgspec.Struct) -> str:
    """A token that says where a page ended."""
    return keyring.seal(end)


def read_page_token(keyring: Keyring, token: str | None, shape: type[T]) -> T | None:
    """Where the page before ended, or None for the first page.

    Raises:
        Invalid: the token is not one of a list like this.
    """
    if token is None:
        return None
    try:
        return keyring.unseal(token, shape)
    except Invalid:
        raise Invalid(
            "pageToken: it is not one that this list gave.", hint="Start again without a pageToken."
        ) from None
