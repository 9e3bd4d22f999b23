"""What goes wrong for devices, at the word of a script in a browser: see `Browser.run`."""

from __future__ import annotations

import gzip
import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from between import Between, Seen
    from running import Server


def delivered(seen: list[Seen]) -> set[str]:
    """Ids of the messages of Segment's shape that the server took, and said so."""
    ids = set()
    for request in seen:
        if request.status == 200 and request.method == "POST" and not request.path.endswith("/m"):
            body = request.body
            told = json.loads(gzip.decompress(body) if body.startswith(b"\x1f\x8b") else body)
            ids |= {message["messageId"] for message in told.get("batch", [told])}
    return ids


def steps(server: Server, between: Between) -> dict[str, Callable[[Any], Any]]:
    """Kill and start the server, have it be busy, lose an answer; wait until so many messages were delivered."""

    def until(count: int) -> None:
        between.wait(lambda seen: len(delivered(seen)) >= count, 60)

    def refused(_value: Any) -> None:
        between.wait(lambda seen: any(request.status == 503 for request in seen))

    def start(_value: Any) -> None:
        server.start()

    def busy(value: bool) -> None:
        between.busy = value

    def lose(count: int) -> None:
        between.losses = count

    return {
        "delivered": until,
        "refused": refused,
        "kill": lambda _: server.kill(),
        "start": start,
        "busy": busy,
        "lose": lose,
    }
