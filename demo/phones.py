"""Phones that do not exist, and what their users do: a day of visits to a shop."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from segment.analytics.client import Client

if TYPE_CHECKING:
    import random
    from collections.abc import Iterator

SCREENS = ("Home", "Search", "Product", "Basket", "Checkout")
MODELS = ("Pixel 8", "Galaxy S24", "Xperia 5", "Fairphone 5")
LOCALES = ("fr-FR", "de-DE", "en-GB", "pt-BR")


def send_segment(url: str, sdk_key: str, phones: int, start: int, rng: random.Random) -> tuple[int, int]:
    """Send visits with the real Segment SDK for Python; `start` is in seconds since 1970.

    Returns:
        How many messages were sent, and how many of them were events.
    """
    failed: list[Exception] = []
    client = Client(sdk_key, host=url, gzip=True, on_error=lambda error, _batch: failed.append(error))
    messages = events = 0
    for number in range(phones):
        phone = {"anonymous_id": f"segment-{number:04d}", "context": _context(rng)}
        clock = start + rng.randrange(80_000)
        client.identify(
            traits={"plan": rng.choice(("free", "pro")), "visits": rng.randrange(1, 40)},
            timestamp=_moment(clock),
            **phone,
        )
        for screen in SCREENS[: rng.randint(2, len(SCREENS))]:
            client.screen(name=screen, timestamp=_moment(clock), **phone)
            clock += rng.randint(1, 4)
            properties = {"price": rng.randint(100, 9900), "screen": screen}
            client.track(event="Product Viewed", properties=properties, timestamp=_moment(clock), **phone)
            clock += rng.randint(1, 4)
            messages += 2
            events += 1
        messages += 1
    client.flush()
    client.join()
    if failed:
        raise failed[0]
    return messages, events


def native_records(phones: int, start: int, rng: random.Random) -> Iterator[dict[str, Any]]:
    """Visits as records of the native protocol: what the phone is, then its session and all that is in it."""
    for number in range(phones):
        clock = (start + rng.randrange(80_000)) * 1000
        phone = {"deviceId": f"native-{number:04d}", "applicationVersionName": "3.1.0"}
        visit = {**phone, "sessionId": str(uuid.UUID(int=rng.getrandbits(128)))}
        yield {
            **phone,
            "kind": "device",
            "timestamp": clock,
            "phoneModel": rng.choice(MODELS),
            "firmwareName": "Android",
            "firmwareVersion": "15",
            "locale": rng.choice(LOCALES),
            "timeZoneOffset": 60,
        }
        yield {
            **phone,
            "kind": "tag",
            "timestamp": clock,
            "key": "plan",
            "value": rng.choice(("free", "pro")),
        }
        yield {**visit, "kind": "sessionStart", "timestamp": clock}
        for screen in SCREENS[: rng.randint(2, len(SCREENS))]:
            end = clock + rng.randint(2_000, 9_000)
            yield {**visit, "kind": "activity", "name": screen, "startTime": clock, "endTime": end}
            for at in range(clock, end, 1_000):
                yield {
                    **visit,
                    "kind": "event",
                    "name": "product_viewed",
                    "timestamp": at,
                    "activityName": screen,
                    "extras": {"price": rng.randint(100, 9900)},
                }
            clock = end
        yield {**visit, "kind": "sessionEnd", "timestamp": clock}


def _context(rng: random.Random) -> dict[str, Any]:
    return {
        "app": {"name": "Shop", "version": "3.1.0", "build": "310"},
        "device": {"manufacturer": "Various", "model": rng.choice(MODELS), "type": "android"},
        "os": {"name": "Android", "version": "15"},
        "locale": rng.choice(LOCALES),
        "timezone": "Europe/Paris",
    }


def _moment(seconds: int) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
