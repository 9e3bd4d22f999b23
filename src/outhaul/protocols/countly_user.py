"""What Countly's SDKs tell of the user, as tags of the device; and when two device ids turn out to be one user's."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from outhaul import records
from outhaul.protocols.countly_request import Request, identifier
from outhaul.protocols.json_text import plain
from outhaul.protocols.keyed import keyed
from outhaul.records import Record, Tag

if TYPE_CHECKING:
    from collections.abc import Iterator

    from outhaul.records import TagOp

_OPS: dict[str, TagOp] = {
    "$inc": "inc",
    "$mul": "mul",
    "$max": "max",
    "$min": "min",
    "$setOnce": "once",
    "$push": "push",
    "$pull": "pull",
    "$addToSet": "addToSet",
}
_OF_LISTS = {"push", "pull", "addToSet"}


def user_details(request: Request) -> Iterator[Record]:
    """A tag for each detail and each change of a custom one; an empty text removes it."""
    details = request.object("user_details")
    custom = details.get("custom")
    if custom is not None and not isinstance(custom, dict):
        raise records.Invalid("field_invalid", "custom is not a JSON object")
    own = {key: value for key, value in details.items() if key != "custom"}
    for key, value in keyed(own).items():
        yield _tag(request, f"own:{key}", key, value)
    for key, value in keyed(custom or {}).items():
        yield from _custom(request, key, value)


def _custom(request: Request, key: str, value: Any) -> Iterator[Record]:
    if not (isinstance(value, dict) and value and all(name.startswith("$") for name in value)):
        yield _tag(request, f"custom:{key}", key, value)
        return
    for name, operand in value.items():
        op = _OPS.get(name)
        if op is None:
            raise records.Invalid("not_supported", f"there is no change {name[:80]!r} of a custom property")
        operands = operand if op in _OF_LISTS and isinstance(operand, list) else [operand]
        for place, one in enumerate(operands):
            shared = request.shared(f"custom:{key}:{op}:{place}")
            yield Tag(**shared, timestamp=request.time, key=key, value=plain(one), op=op)


def _tag(request: Request, part: str, key: str, value: Any) -> Record:
    return Tag(
        **request.shared(part),
        timestamp=request.time,
        key=key,
        value=None if value == "" else plain(value),
    )


def attribution(request: Request) -> Iterator[Record]:
    """The campaign that brought the user."""
    for name in ("campaign_id", "campaign_user"):
        if request.has(name):
            yield _tag(request, name, name, request.params[name])


def merge(request: Request) -> Iterator[Record]:
    """Both device ids are the user's whom the new one names; what either of them did stays its own."""
    old = identifier(request.params["old_device_id"], "old_device_id")
    for part, device_id in (("merge:new", request.device_id), ("merge:old", old)):
        shared = request.shared(part) | {"device_id": device_id}
        yield Tag(**shared, timestamp=request.time, key="userid", value=request.device_id)
