"""Of whom something is asked, and what it means that an erasure has ended."""

from __future__ import annotations

from typing import TYPE_CHECKING

from outhaul.client.requests import quoted
from outhaul.errors import ErasureFailed, Invalid

if TYPE_CHECKING:
    from outhaul.rest import ErasureShown


def path_of(user_id: str | None, device_id: str | None) -> str:
    """The path of a user, or of a device.

    Raises:
        Invalid: both are given, or neither.
    """
    if user_id is not None and device_id is None:
        return f"/users/{quoted(user_id)}"
    if device_id is not None and user_id is None:
        return f"/devices/{quoted(device_id)}"
    raise Invalid("It is of a user or of a device.", hint="Give either user_id or device_id.")


def check_success(erasure: ErasureShown) -> None:
    """Let an erasure that has ended pass if it succeeded.

    Raises:
        ErasureFailed: it did not.
    """
    if erasure.state != "succeeded":
        raise ErasureFailed(
            f"The erasure {erasure.id} failed: {erasure.error or erasure.state}",
            hint="Ask for it again: it goes on with what is left.",
        )
