"""Everything Outhaul raises on purpose.

    OuthaulError
      x Invalid            what was asked for is wrong as written: fix the request (400)
      x Unauthenticated    who is asking is unknown, or no longer believed (401)
      x Forbidden          known, but not allowed to (403)
      x NotFound           there is no such thing (404)
      x Conflict           it exists already, or is in use (409)
      x TooLarge           over a documented limit (413)
      x Busy               not now: come back later (503)
        + TooMany                 over a rate limit or a quota: later it is allowed (429)
        + Unreachable             the server did not answer at all
      x TimedOut           what was waited for did not happen in the time given; it goes on
      x DestinationError   an export's container would not take the file
        + DestinationRefused      we may not write there: address not allowed by the operator
        + DestinationDenied       the container refused the credentials
        + DestinationMissing      no such container or folder
        + DestinationUnreachable  it did not answer; the only one that a retry can help
      x SourceError        the file of an import cannot be read
        + SourceRefused           we may not read there: address not allowed by the operator
        + SourceDenied            whoever keeps the file refused the credentials
        + SourceMissing           no such file, container or bucket
        + SourceUnreachable       it did not answer; the only one that a retry can help
        + SourceChanged           it is no longer the file that was begun
        + SourceUnreadable        it was read, but it is no file of tags
      x ExportMismatch     the rows written are not the rows planned: never delivered
      x Damaged            data at rest does not read back as it was written
      x Cancelled          somebody asked for it to be stopped
      x ExportFailed       an export that was waited for ended without success
      x ErasureFailed      so did an erasure
      x ImportFailed       so did an import

Every error carries a ``code`` that never changes, a message that says what happened to what, and a
``hint`` that says what to do. None of the three ever holds a secret.
"""

from __future__ import annotations


class OuthaulError(Exception):
    """Base of all errors raised on purpose; catch it to catch them all.

    `request_id` is that of the request that a server refused, as it is in the server's log.
    """

    code = "error"
    request_id: str | None = None

    def __init__(self, message: str, *, hint: str = "", code: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        if code:
            self.code = code

    def __str__(self) -> str:
        return f"{self.message} {self.hint}".rstrip()


class Invalid(OuthaulError):
    """What was asked for is wrong as written."""

    code = "invalid"


class Unauthenticated(OuthaulError):
    """Who is asking is unknown, or no longer believed."""

    code = "unauthenticated"


class Forbidden(OuthaulError):
    """The caller is known, but may not do this."""

    code = "forbidden"


class NotFound(OuthaulError):
    """There is no such thing."""

    code = "not_found"


class Conflict(OuthaulError):
    """It exists already, or is in use by somebody else."""

    code = "conflict"


class TooLarge(OuthaulError):
    """Over a documented limit."""

    code = "too_large"


class Busy(OuthaulError):
    """Not now: the same request may succeed later; `retry_after_s` says in how many seconds, where that is known."""

    code = "busy"
    retry_after_s: float | None = None


class TooMany(Busy):
    """Over a rate limit or a quota; `retry_after_s` says in how many seconds it may be tried again."""

    code = "too_many"
    retry_after_s: float

    def __init__(self, message: str, *, hint: str = "", code: str = "", retry_after_s: float = 1.0) -> None:
        super().__init__(message, hint=hint, code=code)
        self.retry_after_s = retry_after_s


class Unreachable(Busy):
    """The server did not answer; nothing is known about what became of the request."""

    code = "unreachable"


class TimedOut(OuthaulError):
    """What was waited for did not happen in the time given; it goes on without being waited for."""

    code = "timed_out"


class DestinationError(OuthaulError):
    """An export's container would not take the file."""

    code = "destination_failed"


class DestinationRefused(DestinationError):
    """The operator does not allow exports to this address."""

    code = "destination_refused"


class DestinationDenied(DestinationError):
    """The container refused the credentials it was given."""

    code = "destination_denied"


class DestinationMissing(DestinationError):
    """The container, or the folder, does not exist."""

    code = "destination_missing"


class DestinationUnreachable(DestinationError):
    """The container did not answer; the one case in which trying again can help."""

    code = "destination_unreachable"


class SourceError(OuthaulError):
    """The file of an import cannot be read."""

    code = "source_failed"


class SourceRefused(SourceError):
    """The operator does not allow imports from this address."""

    code = "source_refused"


class SourceDenied(SourceError):
    """Whoever keeps the file refused the credentials."""

    code = "source_denied"


class SourceMissing(SourceError):
    """There is no such file, container or bucket."""

    code = "source_missing"


class SourceUnreachable(SourceError):
    """Whoever keeps the file did not answer; the one case in which trying again can help."""

    code = "source_unreachable"


class SourceChanged(SourceError):
    """It is no longer the file that was begun."""

    code = "source_changed"


class SourceUnreadable(SourceError):
    """The file was read, but it is no file of tags in a format that is known."""

    code = "source_unreadable"


class ExportMismatch(OuthaulError):
    """The rows written are not the rows planned, so nothing was delivered."""

    code = "export_mismatch"


class Damaged(OuthaulError):
    """Data at rest does not read back as it was written."""

    code = "damaged"


class Cancelled(OuthaulError):
    """Somebody asked for it to be stopped."""

    code = "cancelled"


class ExportFailed(OuthaulError):
    """An export that was waited for ended without success; its code is that of the failure."""

    code = "export_failed"


class ErasureFailed(OuthaulError):
    """An erasure that was waited for ended without success; the message says why."""

    code = "erasure_failed"


class ImportFailed(OuthaulError):
    """An import that was waited for ended without success; its code is that of the failure."""

    code = "import_failed"
