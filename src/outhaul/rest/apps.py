"""What is there: kinds of export, apps with their collections and retention, and the tags that are declared."""

from __future__ import annotations

from typing import Annotated, get_args

from msgspec import Meta

from outhaul.rest.base import Answered, Asked, Name
from outhaul.schema import Kind  # noqa: TC001  msgspec resolves it at run time
from outhaul.wire import Platform, RetainedKind, TagType

MAX_DAYS = 36_500
"""For how many days records can be kept without being kept for ever."""


class ColumnShown(Answered, frozen=True):
    name: str
    type: str
    required: bool
    default: bool
    help: str


class KindShown(Answered, frozen=True):
    """A kind of export: its columns, those with `default` of false only when asked for by name."""

    kind: Kind
    dated: bool
    help: str
    columns: list[ColumnShown]


class KindList(Answered, frozen=True):
    kinds: list[KindShown]


class NewApp(Asked, frozen=True):
    """An app to be registered, in the `collection` of its own name unless another is given."""

    name: Name
    platform: Platform
    collection: Name | None = None


class AppShown(Answered, frozen=True, kw_only=True):
    """An app; nothing is taken from its devices while it has a `disabledAt`."""

    app_id: str
    name: str
    platform: Platform
    app_collection: str
    app_name: str
    created_at: str
    disabled_at: str | None = None


class RegisteredApp(AppShown, frozen=True, kw_only=True):
    """The same with the key that its devices send with."""

    sdk_key: str


class AppList(Answered, frozen=True):
    apps: list[AppShown]


class NewCollection(Asked, frozen=True):
    """A collection to be made, with no apps in it yet."""

    name: Name


class CollectionShown(Answered, frozen=True):
    """A collection and its `apps`, by their `appId`; nothing is taken from their devices while it has a `disabledAt`."""

    name: str
    apps: list[str]
    created_at: str
    disabled_at: str | None


class CollectionList(Answered, frozen=True):
    """The collections, in order of their names."""

    collections: list[CollectionShown]


_KINDS = {"propertyNames": {"enum": list(get_args(RetainedKind))}}


class NewRetention(Asked, frozen=True):
    """For how many `days` records are kept from now on, by kind, in place of what was set before."""

    days: Annotated[
        dict[RetainedKind, Annotated[int, Meta(ge=1, le=MAX_DAYS)]], Meta(extra_json_schema=_KINDS)
    ]


class Retention(Answered, frozen=True):
    """For how many `days` records are kept, by kind; a kind that is not in it is kept for ever."""

    days: dict[str, int]


class NewTag(Asked, frozen=True):
    """What type a tag is meant to be of."""

    type: TagType


class TagDeclared(Answered, frozen=True):
    key: str
    type: TagType
    declared_at: str


class TagList(Answered, frozen=True):
    """The declared tags of an app, in order of their keys."""

    tags: list[TagDeclared]
