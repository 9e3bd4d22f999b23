"""What a container answered, in our words: its own could repeat what it was sent."""

from __future__ import annotations

import re
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, NamedTuple

from outhaul.errors import (
    DestinationDenied,
    DestinationError,
    DestinationMissing,
    DestinationUnreachable,
    SourceChanged,
    SourceDenied,
    SourceError,
    SourceMissing,
    SourceUnreachable,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

_REGION = re.compile(r"<Region>([a-z]{2,4}(?:-[a-z]{2,12}){1,3}-\d{1,2})</Region>")
_CODE = re.compile(r"<Code>([A-Za-z]{3,60})</Code>")
_ECHO = 6
"""So many letters in a row that an error's name shares with a secret are taken for a piece of it."""


@dataclass(frozen=True)
class Words:
    """How the failures of one kind of storage are told.

    `hints` are by the service's own names of errors; `denials` are those that it gives for refused credentials
    with a status that does not say so. `misfit` is the cure where it is another kind of service altogether.
    """

    noun: str
    credential: str
    ask: str
    misfit: str
    hints: Mapping[str, str]
    denials: frozenset[str] = frozenset()


class Failed(NamedTuple):
    """How a request failed, and whether there was anybody to answer it."""

    error: DestinationError
    answered: bool


def explain(told: str, site: str, words: Words, secrets: Iterable[str]) -> Failed:
    """Say what obstore told: only the status, the service's name of the error and the right region are taken over."""
    if status := re.search(r"Server returned non-2xx status code: (\d{3})", told):
        return Failed(_refusal(int(status[1]), told, site, words, secrets), answered=True)
    if "Received redirect without LOCATION" in told:
        hint = "Give the region that it is in."
        return Failed(
            DestinationError(f"The {words.noun} is not at {site}, but in another region.", hint=hint),
            answered=True,
        )
    if "source: Credential" in told or "PathAndKeyProvided" in told:
        error = DestinationError(
            f"This server cannot open {words.noun}s.",
            hint="Its environment holds a GOOGLE_ variable that cannot be read; Outhaul needs none.",
        )
        return Failed(error, answered=False)
    if "HttpError" not in told:
        error = DestinationError(
            f"What {site} answered is not what a {words.noun} answers.", hint=words.misfit
        )
        return Failed(error, answered=True)
    return Failed(_silence(told, site, words), answered=False)


def _refusal(status: int, told: str, site: str, words: Words, secrets: Iterable[str]) -> DestinationError:
    code = _code(told, secrets)
    answer = f"{status} {code}".rstrip()
    hint = words.hints.get(code, "")
    if status in {401, 403} or code in words.denials:
        return DestinationDenied(
            f"The {words.noun} at {site} refused the {words.credential} ({answer}).", hint=hint + words.ask
        )
    if status == HTTPStatus.NOT_FOUND:
        hint = f"Create the {words.noun}, or correct its name; exports do not create it."
        return DestinationMissing(f"There is no such {words.noun} at {site} ({answer}).", hint=hint)
    if _is_busy(status, code):
        return DestinationUnreachable(
            f"The {words.noun} at {site} cannot take files now ({answer}).", hint="Try again later."
        )
    if region := _REGION.search(told):
        hint = f"It is in the region {region[1]}: give that one."
    return DestinationError(
        f"The {words.noun} at {site} would not take the file ({answer}).", hint=hint or words.misfit
    )


def explain_reading(told: str, site: str, words: Words, secrets: Iterable[str]) -> SourceError:
    """Say what obstore told when a file was to be read, as `explain` does; `words` are those for reading."""
    if status := re.search(r"Server returned non-2xx status code: (\d{3})", told):
        return _reading_refused(int(status[1]), told, site, words, secrets)
    if "HttpError" not in told or "source: Credential" in told:
        # The same as for writing: redirects, keys that cannot be used, services of another kind.
        error = explain(told, site, words, secrets).error
        return SourceError(error.message, hint=error.hint)
    silent = _silence(told, site, words)
    kind = SourceUnreachable if isinstance(silent, DestinationUnreachable) else SourceError
    return kind(silent.message, hint=silent.hint)


def _reading_refused(status: int, told: str, site: str, words: Words, secrets: Iterable[str]) -> SourceError:
    code = _code(told, secrets)
    answer = f"{status} {code}".rstrip()
    hint = words.hints.get(code, "")
    if status in {401, 403} or code in words.denials:
        return SourceDenied(
            f"The {words.noun} at {site} refused the {words.credential} ({answer}).", hint=hint + words.ask
        )
    if status == HTTPStatus.NOT_FOUND:
        return SourceMissing(
            f"There is no such file in the {words.noun} at {site} ({answer}).",
            hint=f"Check the names of the {words.noun} and of the file.",
        )
    if status in {HTTPStatus.PRECONDITION_FAILED, HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE}:
        return changed()
    if _is_busy(status, code):
        return SourceUnreachable(
            f"The {words.noun} at {site} cannot give files now ({answer}).", hint="Try again later."
        )
    if region := _REGION.search(told):
        hint = f"It is in the region {region[1]}: give that one."
    return SourceError(
        f"The {words.noun} at {site} would not give the file ({answer}).", hint=hint or words.misfit
    )


def changed() -> SourceChanged:
    """Say that a file is not the one that was begun."""
    return SourceChanged(
        "The file was replaced while it was being imported.",
        hint="Ask for an import of the file as it is now; what was applied stays applied.",
    )


def _code(told: str, secrets: Iterable[str]) -> str:
    """The service's name of its error, unless it shows a secret."""
    named = _CODE.search(told)
    return named[1] if named and not _echoes(named[1], secrets) else ""


def _is_busy(status: int, code: str) -> bool:
    busy = status in {408, 429} or status >= HTTPStatus.INTERNAL_SERVER_ERROR
    return (busy and status != HTTPStatus.NOT_IMPLEMENTED) or code == "RequestTimeout"


def _echoes(code: str, secrets: Iterable[str]) -> bool:
    """Whether a hostile server names a piece of a secret instead of an error."""
    pieces = [code[start : start + _ECHO].lower() for start in range(max(1, len(code) - _ECHO + 1))]
    letters = [re.sub(r"[^a-z]", "", secret.lower()) for secret in secrets]
    return any(piece in secret for piece in pieces for secret in letters)


def _silence(told: str, site: str, words: Words) -> DestinationError:
    if "InvalidCertificate" in told:
        hint = "Its certificate must be signed by an authority that this server's system trusts."
        return DestinationError(f"The certificate of {site} is not valid.", hint=hint)
    if "kind: Timeout" in told or "TimedOut" in told:
        hint = "If the connection is slow, the operator can raise OUTHAUL_DELIVERY_TIMEOUT_S."
        return DestinationUnreachable(f"The {words.noun} at {site} did not answer in time.", hint=hint)
    hint = "Check its address, and that this server can reach it; it may not redirect to another host."
    return DestinationUnreachable(f"The {words.noun} at {site} cannot be reached.", hint=hint)
