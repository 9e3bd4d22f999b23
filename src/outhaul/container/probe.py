"""Trying a destination without delivering anything: step by step, each with what was found and its cure."""

from __future__ import annotations

import threading
from datetime import UTC
from typing import TYPE_CHECKING, Literal, get_args

from msgspec import Struct

from outhaul.container.objects import Objects
from outhaul.errors import DestinationDenied, DestinationError, DestinationUnreachable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from outhaul.container.folder import Folder
    from outhaul.container.objects import Storage

StepName = Literal["allowed", "reach", "authorised", "valid_long_enough"]
PATIENCE_S = 10
"""Seconds after which a destination that has not answered is taken not to."""


class Step(Struct, frozen=True, rename="camel"):
    """One question about a destination. `ok` of None: not asked because an earlier one failed, or not to be known."""

    name: StepName
    ok: bool | None
    detail: str = ""
    cure: str = ""


def ask(steps: Iterator[Step]) -> list[Step]:
    """Take the steps one after the other, up to the first that fails, and for `PATIENCE_S` at most."""
    taken: list[Step] = []
    broken: list[Exception] = []

    def take() -> None:
        try:
            for step in steps:
                taken.append(step)
                if step.ok is False:
                    return
        except Exception as error:  # noqa: BLE001  raised again by whoever waits
            broken.append(error)

    # A daemon: a name server that is asked in vain must not keep the process from ending.
    asking = threading.Thread(target=take, name="probe", daemon=True)
    asking.start()
    asking.join(PATIENCE_S)
    late = asking.is_alive()
    if broken:
        raise broken[0]
    done = list(taken)
    names: tuple[StepName, ...] = get_args(StepName)
    if late and len(done) < len(names):
        detail = f"There was no answer within {PATIENCE_S} seconds."
        done.append(
            Step(names[len(done)], ok=False, detail=detail, cure="Check its address and the network.")
        )
    return done + [Step(name, ok=None, detail="Not tried.") for name in names[len(done) :]]


def storage_steps(storage: Storage, needed_s: float, now: float) -> Iterator[Step]:
    """Reach a container or bucket, begin a file there and give it up, and look at how long the credentials last."""
    words = storage.words
    failed = Objects(storage, timeout_s=0).try_out()
    if failed and not failed.answered:
        yield _no("reach", failed.error)
        return
    yield Step("reach", ok=True, detail=f"{storage.site} answers.")
    complaint = storage.complaint(now)
    if complaint:
        yield Step("authorised", ok=False, detail=f"The {words.credential} {complaint}.", cure=words.ask)
    elif failed and isinstance(failed.error, DestinationUnreachable):
        yield Step("authorised", ok=None, detail=failed.error.message, cure=failed.error.hint)
    elif failed:
        yield _no("authorised", failed.error)
    else:
        yield Step("authorised", ok=True, detail=f"The {words.noun} takes files.")
    yield _validity(storage, needed_s, now)


def folder_steps(folder: Folder) -> Iterator[Step]:
    """Make a file in a folder of this server that is gone again at once."""
    try:
        folder.try_out()
    except DestinationDenied as error:
        yield Step("reach", ok=True, detail="The folder is there.")
        yield _no("authorised", error)
    except DestinationError as error:
        yield _no("reach", error)
    else:
        yield Step("reach", ok=True, detail="The folder is there, or can be made.")
        yield Step("authorised", ok=True, detail="The folder takes files.")
        yield Step("valid_long_enough", ok=True, detail="A folder needs no credentials.")


def refused(error: DestinationError) -> Step:
    """Say that the operator does not allow it."""
    return _no("allowed", error)


def _no(name: StepName, error: DestinationError) -> Step:
    return Step(name, ok=False, detail=error.message, cure=error.hint)


def _validity(storage: Storage, needed_s: float, now: float) -> Step:
    words = storage.words
    if storage.ends is None:
        if storage.endless:
            detail = f"There is no time at which the {words.credential} would end."
            return Step("valid_long_enough", ok=True, detail=detail)
        detail = f"Nothing says when the {words.credential} will end."
        return Step(
            "valid_long_enough", ok=None, detail=detail, cure="It must be later than the end of the export."
        )
    end = storage.ends.astimezone(UTC).isoformat().replace("+00:00", "Z")
    short = needed_s - (storage.ends.timestamp() - now)
    if short <= 0:
        return Step("valid_long_enough", ok=True, detail=f"The {words.credential} can be used until {end}.")
    detail = f"The {words.credential} can be used until {end}, {_span(short)} too short."
    return Step("valid_long_enough", ok=False, detail=detail, cure=words.ask)


def _span(seconds: float) -> str:
    for unit, size in (("day", 86400), ("hour", 3600), ("minute", 60)):
        if seconds >= size:
            count = round(seconds / size)
            return f"{count} {unit}{'s' if count > 1 else ''}"
    return f"{max(1, round(seconds))} s"
