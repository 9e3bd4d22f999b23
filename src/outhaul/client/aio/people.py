"""What is known of a person, a user or a device: streamed, or exported."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from outhaul.client.aio.connection import Connection


class People:
    """Users and devices of an app, which is given by its name or its id."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
