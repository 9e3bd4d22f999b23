"""What imports have in common, however they are asked for: where they read, and what their end means."""

from __future__ import annotations

from typing import TYPE_CHECKING

from outhaul.errors import Cancelled, ImportFailed, Invalid
from outhaul.wire import Source

if TYPE_CHECKING:
    from outhaul.rest import ImportShown


def source_of(given: str | Source) -> Source:
    """The source that is meant.

    Raises:
        Invalid: it is no URL, so the server could not read it.
    """
    source = Source(url=given) if isinstance(given, str) else given
    if "://" not in source.url:
        raise Invalid(
            "The source is not a URL: the server reads the file itself, so a file of this machine will not do.",
            hint="Upload it to Azure, S3 or Google Cloud Storage, or put it into a folder of the server that "
            "OUTHAUL_DESTINATIONS allows and give file:///FOLDER/FILE. A few tags: `outhaul devices tag`.",
        )
    return source


def check_success(shown: ImportShown) -> None:
    """Let an import that has ended pass if it succeeded.

    Raises:
        ImportFailed: it failed, with the code, the message and the hint of its failure.
        Cancelled: it was cancelled.
    """
    if shown.state == "cancelled":
        raise Cancelled(f"The import {shown.id} was cancelled.", hint="`retry` goes on where it stopped.")
    if shown.state == "failed":
        trouble = shown.error
        if trouble is None:
            raise ImportFailed(f"The import {shown.id} failed.")
        raise ImportFailed(
            f"The import {shown.id} failed: {trouble.message}", hint=trouble.hint, code=trouble.code
        )
