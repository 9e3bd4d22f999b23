"""What clients send → our shapes, with messages that name the member that is wrong."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, TypeVar, get_args

import msgspec
from msgspec import Struct

from outhaul import instants, selection
from outhaul.errors import Invalid, TooLarge
from outhaul.schema import EXPORTS
from outhaul.wire import Campaigns, ExportRequest, Period

if TYPE_CHECKING:
    from starlette.requests import Request

    from outhaul.rest import CampaignChoice, ExportSpec
    from outhaul.wire import Compression, Subject, TimeFormat

S = TypeVar("S", bound=Struct)

PART_BYTES = 256 * 1024 * 1024
"""`maxFileBytes` of an export in parts that says neither that nor `dayPath`."""
MAX_PART_BYTES = 1 << 40
MAX_CAMPAIGNS = 10_000
_DRAIN_FACTOR = 8
_TEXT_CODECS: tuple[Compression, ...] = ("none", "gzip", "zstd")
_NUMBER = re.compile(r"-?[0-9]{1,18}")
_ELEMENT = re.compile(r"\[.*?\]")
_ERROR = re.compile(r"(?P<what>.*?)(?: - at `(?:key` in `)?(?:\$\.?(?P<at>.*)|.*)`)?", re.DOTALL)


# Bodies and queries


async def read_body(request: Request, limit: int) -> bytes:
    """The body as sent.

    Raises:
        TooLarge: it has more bytes than `limit`.
    """
    body = bytearray()
    size = 0
    async for part in request.stream():
        size += len(part)
        if size <= limit:
            body += part
        elif size > limit * _DRAIN_FACTOR:
            # Read on for a while: a client that is still sending would not see the answer.
            break
    if size > limit:
        raise TooLarge(f"The request body is larger than {limit} bytes.", hint="Send less in one request.")
    return bytes(body)


def read_object(body: bytes) -> dict[str, Any]:
    """A body as the JSON object that it must be.

    Raises:
        Invalid: it is none.
    """
    try:
        value = msgspec.json.decode(body)
    except RecursionError:
        raise _nested() from None
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise Invalid("The request body is not JSON in UTF-8.", hint="Send one JSON object.") from None
    if not isinstance(value, dict):
        raise Invalid("The request body is not a JSON object.", hint="Send one JSON object.")
    return value


def read_shape(members: dict[str, Any], shape: type[S]) -> S:
    """A JSON object as the shape says.

    Raises:
        Invalid: a member is missing, unknown or wrong, naming it.
    """
    try:
        return msgspec.convert(members, shape)
    except RecursionError:
        raise _nested() from None
    except msgspec.ValidationError as error:
        raise _complaint(error, shape) from None


def read_query(request: Request, shape: type[S]) -> S:
    """The options in the URL's query as the shape says.

    Raises:
        Invalid: one is missing, unknown, wrong or given twice, naming it.
    """
    options: dict[str, str | int] = {}
    for name, value in request.query_params.multi_items():
        if name in options:
            raise Invalid(f"{name[:80]}: it is given twice.", hint="Give each option of the query once.")
        options[name] = value
    for info in msgspec.structs.fields(shape):
        # Everything in a query is text. The library's own way to read it takes `null` for nothing, anywhere.
        if int in _parts(info.type) and _NUMBER.fullmatch(str(options.get(info.encode_name))):
            options[info.encode_name] = int(options[info.encode_name])
    try:
        return msgspec.convert(options, shape)
    except msgspec.ValidationError as error:
        raise _complaint(error, shape) from None


def _nested() -> Invalid:
    return Invalid("The request body is nested too deeply.", hint="Send fewer levels.")


def _complaint(error: msgspec.ValidationError, shape: type[Struct]) -> Invalid:
    """What is wrong with which member, in words; the values possible, where there are few."""
    match = _ERROR.fullmatch(str(error))
    what, at = (match["what"], match["at"] or "") if match else (str(error), "")
    if found := re.fullmatch(r"Object contains unknown field `(.*)`", what, re.DOTALL):
        name = ".".join(part for part in (at, found[1][:80]) if part)
        known = [field.encode_name for field in _fields(shape, at)]
        return Invalid(
            f"{name}: there is no such member.", hint=f"There are {', '.join(known)}." if known else ""
        )
    if found := re.fullmatch(r"Object missing required field `(.*)`", what):
        return Invalid(
            f"{'.'.join(part for part in (at, found[1]) if part)}: it is missing.", hint="Give it a value."
        )
    choices = _choices(shape, at) if what.startswith("Invalid enum value") else []
    hint = f"It takes {' or '.join(choices)}." if choices else "See the operation's schema in /api/v1/docs."
    return Invalid(f"{at or 'The request'}: {what[:1].lower()}{what[1:]}.", hint=hint)


def _fields(shape: Any, at: str) -> tuple[msgspec.structs.FieldInfo, ...]:
    """Members of the struct that a path of members leads to; none where it leads through anything else."""
    for name in _ELEMENT.sub("", at).split(".") if at else ():
        kinds = [info.type for info in _fields(shape, "") if info.encode_name == name]
        structs = [
            one for kind in kinds for one in _parts(kind) if isinstance(one, type) and issubclass(one, Struct)
        ]
        if not structs:
            return ()
        shape = structs[0]
    return msgspec.structs.fields(shape)


def _choices(shape: type[Struct], at: str) -> list[str]:
    parent, _, last = _ELEMENT.sub("", at).rpartition(".")
    kinds = [info.type for info in _fields(shape, parent) if info.encode_name == last]
    return [str(value) for kind in kinds for value in _parts(kind) if isinstance(value, str)]


def _parts(kind: Any) -> list[Any]:
    """The members of a union, the values of a literal; a type that is neither, itself."""
    args = [arg for arg in get_args(kind) if not isinstance(arg, msgspec.Meta)]
    return [part for arg in args for part in (_parts(arg) if get_args(arg) else [arg])] if args else [kind]


# Exports


def read_export(spec: ExportSpec) -> ExportRequest:
    """What an export is asked to do.

    Raises:
        Invalid: members do not go together, or have values that they cannot have, naming one.
    """
    dated = EXPORTS[spec.kind].dated
    max_file_bytes, day_path = _read_layout(spec, dated=dated)
    request = ExportRequest(
        kind=spec.kind,
        format=spec.format,
        period=_read_period(spec, dated=dated),
        campaigns=_read_campaigns(spec.kind, spec.campaigns) if spec.campaigns is not None else None,
        compression=_read_compression(spec),
        columns=spec.columns,
        where=spec.where,
        mask=spec.mask,
        max_file_bytes=max_file_bytes,
        day_path=day_path,
        time_format=_read_time_format(spec),
        of=_read_subject(spec),
    )
    selection.check(request)
    return request


def read_between(name: str, start: str, end: str) -> tuple[int, int]:
    """A half-open interval in ms since 1970.

    Raises:
        Invalid: an end is no instant, or they are in the wrong order, naming the member.
    """
    first, last = instants.read(f"{name}.from", start), instants.read(f"{name}.to", end)
    if first >= last:
        raise Invalid(
            f"{name}.to: it is not after {name}.from.", hint="`from` is in the interval, `to` is not."
        )
    return first, last


def _read_period(spec: ExportSpec, *, dated: bool) -> Period | None:
    if spec.period is None:
        if dated and not EXPORTS[spec.kind].personal:
            raise Invalid(
                f"period: an export of kind {spec.kind} needs one.",
                hint='Add "period": {"from": "2026-11-01", "to": "2026-12-01"}.',
            )
        return None
    if not dated:
        raise Invalid(
            f"period: an export of kind {spec.kind} has none.",
            hint="It is of everything known now: leave it out.",
        )
    if EXPORTS[spec.kind].personal and spec.period.by != "timestamp":
        raise Invalid(
            f"period.by: an export of kind {spec.kind} goes by timestamp.",
            hint="Leave it out, or the period.",
        )
    start, end = read_between("period", spec.period.from_, spec.period.to)
    return Period(start=start, end=end, by=spec.period.by)


def _read_subject(spec: ExportSpec) -> Subject | None:
    personal = EXPORTS[spec.kind].personal
    if spec.of is None:
        if personal:
            raise Invalid(
                f"of: an export of kind {spec.kind} needs it.",
                hint='Add "of": {"userId": "…"} or "of": {"deviceId": "…"}.',
            )
        return None
    if not personal:
        raise Invalid(
            f"of: an export of kind {spec.kind} is of everybody.",
            hint='It goes with kind history; "where" chooses rows of others.',
        )
    return read_subject("of", spec.of)


def read_subject(name: str, given: Subject) -> Subject:
    """Whose records are meant, which is exactly one of a user and a device.

    Raises:
        Invalid: it is neither or both, or an id that nobody can have, naming it `name`.
    """
    ids = [one for one in (given.user_id, given.device_id) if one is not None]
    if len(ids) != 1:
        raise Invalid(f"{name}: it does not name one user or one device.", hint="Give userId or deviceId.")
    if "\0" in ids[0]:
        raise Invalid(f"{name}: the id holds a NUL character.", hint="No stored text has one.")
    return given


def _read_campaigns(kind: str, choice: CampaignChoice) -> Campaigns:
    if kind != "feedback":
        raise Invalid(f"campaigns: an export of kind {kind} has none.", hint="They go with kind feedback.")
    if choice.ids is not None:
        if choice.from_ is not None or choice.to is not None:
            raise Invalid("campaigns: it has ids and an interval.", hint="Give `ids`, or `from` and `to`.")
        if not 0 < len(choice.ids) <= MAX_CAMPAIGNS:
            raise Invalid(f"campaigns.ids: it has {len(choice.ids)} ids.", hint=f"Give 1 to {MAX_CAMPAIGNS}.")
        if any("\0" in one for one in choice.ids):
            raise Invalid("campaigns.ids: one holds a NUL character.", hint="No stored text has one.")
        return Campaigns(type=choice.type, ids=list(dict.fromkeys(choice.ids)))
    if choice.from_ is None or choice.to is None:
        raise Invalid("campaigns: it says not which.", hint="Give `ids`, or both `from` and `to`.")
    start, end = read_between("campaigns", choice.from_, choice.to)
    return Campaigns(type=choice.type, window=Period(start=start, end=end))


def _read_compression(spec: ExportSpec) -> Compression:
    if spec.compression is None:
        return "zstd" if spec.format == "parquet" else "none"
    if spec.format != "parquet" and spec.compression not in _TEXT_CODECS:
        raise Invalid(
            f"compression: {spec.format} is not compressed with {spec.compression}.",
            hint=f"It takes {' or '.join(_TEXT_CODECS)}.",
        )
    return spec.compression


def _read_layout(spec: ExportSpec, *, dated: bool) -> tuple[int | None, bool]:
    """The most bytes of a file, and whether each day has a folder."""
    if spec.layout == "single":
        for name, given in (("maxFileBytes", spec.max_file_bytes is not None), ("dayPath", spec.day_path)):
            if given:
                raise Invalid(f"{name}: it goes with parts.", hint='Add "layout": "parts".')
        return None, False
    if spec.day_path and not dated:
        raise Invalid(
            f"dayPath: an export of kind {spec.kind} has no days.",
            hint="Leave it out; maxFileBytes makes parts.",
        )
    if spec.max_file_bytes is not None and spec.max_file_bytes > MAX_PART_BYTES:
        raise Invalid(f"maxFileBytes: it is over {MAX_PART_BYTES}.", hint="Give less.")
    if spec.max_file_bytes is None and not spec.day_path:
        return PART_BYTES, False
    return spec.max_file_bytes, spec.day_path


def _read_time_format(spec: ExportSpec) -> TimeFormat | None:
    if spec.time_format is not None and spec.format == "parquet":
        raise Invalid(
            "timeFormat: Parquet has timestamps of its own.", hint="Leave it out, or choose a text format."
        )
    return spec.time_format
