"""What people write to ask for an export → the shape that goes over the wire."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, TypedDict, TypeVar

import msgspec
from msgspec import Struct

from outhaul.client.moments import Moment, moment
from outhaul.errors import Invalid
from outhaul.rest import Between, CampaignChoice, ExportSpec, HistorySpec
from outhaul.wire import Destination, Filter, Mask, Subject

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from outhaul.wire import Compression, Format, PeriodBy, TimeFormat

T = TypeVar("T")

_SHAPES: dict[str, Any] = {
    "where": Filter,
    "campaigns": CampaignChoice,
    "mask": dict[str, Mask],
    "of": Subject,
}
_FORMS = {
    "of": 'It is {"userId": "…"} or {"deviceId": "…"}.',
    "where": 'It is {"column": "name", "eq": "x"}, or with ne, lt, le, gt, ge, in, prefix or null; or several in '
    '{"and": […]} or {"or": […]}, or one in {"not": …}.',
    "campaigns": 'It is {"type": "Poll", "ids": ["42"]}, or has "from" and "to" in place of "ids".',
    "mask": 'For each column it is "drop", "hash", {"truncate": 8}, or of a time {"truncate": "day"}.',
}


class Asked(TypedDict, total=False):
    """What an export may be asked to be, besides its app and its kind; what is left out is the server's default.

    - `period`: `(start, end)`, half-open, for kinds that take one; `by` says by which time.
    - `format`: `json`, `jsonl` (the default), `csv` or `parquet`; `compression`: `none`, `gzip` or `zstd`, and for
      Parquet `snappy` and `lz4` as well.
    - `columns`: which, in this order. `where`: which rows, as `outhaul.col` makes it, or as the wire has it.
      `mask`: per column `"drop"`, `"hash"` or `Truncate(…)`.
    - `layout`: `single`, or `parts` with files of `max_file_bytes` at most and, with `day_path`, a folder per UTC day.
    - `time_format`: `ms` or `rfc3339`.
    - `destination`: its URL, or a `Destination` with credentials; without one the server keeps the files.
    - `of`: whose history, for kind `history`: `{"userId": …}` or `{"deviceId": …}`.
    - `campaigns`: of push feedback, `{"type": "Poll", "ids": […]}` or `{"type": …, "from": …, "to": …}`.
    - `description`: a note for people, up to 1,024 characters.
    """

    period: tuple[Moment, Moment] | Between | None
    by: PeriodBy
    format: Format
    compression: Compression | None
    columns: Sequence[str] | None
    where: Filter | Mapping[str, Any] | None
    mask: Mapping[str, Mask | Mapping[str, Any]] | None
    layout: Literal["single", "parts"]
    max_file_bytes: int | None
    day_path: bool
    time_format: TimeFormat | None
    destination: str | Destination | None
    of: Subject | Mapping[str, str] | None
    campaigns: CampaignChoice | Mapping[str, Any] | None
    description: str | None


def specified(app: str, kind: Any, asked: Asked) -> ExportSpec:
    """The request that asks for it; values are for the server to judge.

    Raises:
        Invalid: something is not of the form that it can have, naming it.
    """
    plain: dict[str, Any] = dict(asked)
    period, by = plain.pop("period", None), plain.pop("by", None)
    if period is not None:
        plain["period"] = _between(period, by)
    elif by is not None:
        raise Invalid("by says by which time a period is meant, and there is none.", hint="Give a period.")
    for name, shape in _SHAPES.items():
        if plain.get(name) is not None:
            plain[name] = _converted(name, plain[name], shape)
    if plain.get("columns") is not None:
        if isinstance(plain["columns"], str):
            raise Invalid("columns is one text.", hint="Give a list of names.")
        plain["columns"] = list(plain["columns"])
    if isinstance(plain.get("destination"), str):
        plain["destination"] = Destination(url=plain["destination"])
    return ExportSpec(app=app, kind=kind, **plain)


def of_person(app: str | None, asked: Asked) -> HistorySpec:
    """The request for the history of somebody whom its path names.

    Raises:
        Invalid: something is not of the form that it can have, or has no place here, naming it.
    """
    spec = specified("", "history", asked)
    if spec.of is not None or spec.campaigns is not None:
        raise Invalid("of and campaigns have no place here.", hint="Give a user_id or a device_id.")
    shared = (name for name in HistorySpec.__struct_fields__ if name != "app")
    return HistorySpec(app=app, **{name: getattr(spec, name) for name in shared})


def _between(period: Any, by: PeriodBy | None) -> Between:
    if isinstance(period, Between):
        if by is not None:
            raise Invalid("by is given twice.", hint="A Between has its own.")
        return period
    try:
        start, end = period
    except (TypeError, ValueError):
        raise Invalid(
            f"period is {period!r}.", hint='Give (start, end), such as ("2026-11-01", "2026-12-01").'
        ) from None
    return Between(
        from_=moment("the period's start", start), to=moment("the period's end", end), by=by or "timestamp"
    )


def _converted(name: str, value: Any, shape: Any) -> Any:
    if isinstance(value, Struct):
        return value
    try:
        return msgspec.convert(value, shape)
    except msgspec.ValidationError as error:
        raise Invalid(f"{name}: {error}.", hint=_FORMS[name]) from None
