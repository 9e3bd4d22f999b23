"""What all bodies of `/api/v1` share."""

from __future__ import annotations

from typing import Annotated, Any

from msgspec import UNSET, Meta, Struct, UnsetType

Name = Annotated[str, Meta(min_length=1, max_length=128)]
Description = Annotated[str, Meta(max_length=1024)]


class Asked(
    Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True, rename="camel"
):
    """A request body: a member that does not exist is an error, for it was meant to do something."""


class Answered(Struct, frozen=True, kw_only=True, rename="camel"):
    """An answer's body."""


class Problem(Struct, kw_only=True, rename="camel", omit_defaults=True):
    """Every error, as RFC 9457 has it (`application/problem+json`), with our `code`, `hint` and the request's id."""

    type: str
    title: str
    status: int
    detail: str
    code: str
    hint: str
    request_id: str
    instance: str | UnsetType = UNSET
    errors: list[dict[str, Any]] | UnsetType = UNSET
