"""Send records to a server in the native protocol: in batches, until each is acknowledged.

from outhaul.client import Collector

with Collector("http://127.0.0.1:8080", sdk_key) as collector:
    collector.send([{"kind": "event", "deviceId": "d1", "name": "opened", "timestamp": 1795464000000}])
"""

from __future__ import annotations

import gzip
import time
import uuid
from typing import TYPE_CHECKING, Any, Self

import httpx2
import msgspec

from outhaul import __version__
from outhaul.errors import Busy, Invalid, TooLarge, Unauthenticated
from outhaul.profiles import checked_url

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from types import TracebackType

BATCH_RECORDS = 500
BATCH_BYTES = 1_000_000
"""Bytes of JSON in a request before compression, the envelope not counted."""
_FIRST_DELAY_S = 0.5
_LONGEST_DELAY_S = 30.0
_encode = msgspec.json.encode


class Collector:
    """Sends records of one app to one server; a context manager, not to be shared between threads.

    `patience_s` bounds how long one batch may wait, all its retries together, before `Busy` is raised.
    """

    def __init__(
        self,
        url: str,
        sdk_key: str,
        *,
        timeout_s: float = 30.0,
        patience_s: float = 120.0,
        sleep: Callable[[float], None] = time.sleep,
        new_id: Callable[[], object] = uuid.uuid4,
    ) -> None:
        self._address = f"{checked_url(url)}/api/v1/collect"
        self._patience_s = patience_s
        self._sleep = sleep
        self._new_id = new_id
        self._http = httpx2.Client(
            auth=httpx2.BasicAuth(sdk_key, ""),
            timeout=timeout_s,
            headers={"Content-Type": "application/json", "Content-Encoding": "gzip"},
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self._http.close()

    def send(self, records: Iterable[dict[str, Any]]) -> int:
        """Send records and return how many were acknowledged, which is all of them.

        A record without an `id` is given one, in place: sent again, it is recognised and exported once.

        Raises:
            Busy: the server could not be reached, or asked to come back later, for longer than `patience_s`.
            Unauthenticated: the SDK key is not one of the server's.
            Invalid: the server cannot read what was sent, or a record is not JSON.
            TooLarge: one record alone is over `BATCH_BYTES`, or the server takes less in one request.
        """
        sent = 0
        for batch in self._batches(records):
            self._post(batch)
            sent += len(batch)
        return sent

    def _batches(self, records: Iterable[dict[str, Any]]) -> Iterator[list[bytes]]:
        batch: list[bytes] = []
        size = 0
        for record in records:
            encoded = self._encoded(record)
            if batch and (len(batch) == BATCH_RECORDS or size + len(encoded) > BATCH_BYTES):
                yield batch
                batch, size = [], 0
            batch.append(encoded)
            size += len(encoded) + 1
        if batch:
            yield batch

    def _encoded(self, record: dict[str, Any]) -> bytes:
        if record.get("id") is None:
            record["id"] = str(self._new_id())
        try:
            encoded = _encode(record)
        except (TypeError, ValueError) as error:
            raise Invalid(
                f"A record is not JSON: {error}.",
                hint="Use text, numbers, booleans, null, lists and objects.",
            ) from error
        if len(encoded) > BATCH_BYTES:
            raise TooLarge(
                f"The record {record['id']!r} takes {len(encoded)} bytes; the limit is {BATCH_BYTES}.",
                hint="Extras hold up to 1,024 characters, a stack trace up to 65,536.",
            )
        return encoded

    def _post(self, batch: list[bytes]) -> None:
        sdk = b'{"sdkName":"outhaul-python","sdkVersion":' + _encode(__version__)
        body = gzip.compress(sdk + b',"records":[' + b",".join(batch) + b"]}", compresslevel=1)
        waited, delay = 0.0, _FIRST_DELAY_S
        while True:
            wanted = self._attempt(body)
            if wanted is None:
                return
            reason, retry_after = wanted
            pause = delay if retry_after is None else retry_after
            if waited + pause > self._patience_s:
                raise Busy(
                    f"The server did not take the records within {self._patience_s:g} s: {reason}.",
                    hint="Send the same records again later: what has arrived is recognised by its id.",
                )
            self._sleep(pause)
            waited += pause
            delay = min(delay * 2, _LONGEST_DELAY_S)

    def _attempt(self, body: bytes) -> tuple[str, float | None] | None:
        """One try: None when acknowledged, else why it was not and the seconds the server asks to wait."""
        try:
            response = self._http.post(self._address, content=body)
        except httpx2.TransportError as error:
            return f"{type(error).__name__}: {error}".removesuffix(": "), None
        if response.is_success:
            return None
        if response.status_code == httpx2.codes.TOO_MANY_REQUESTS or response.is_server_error:
            asked = response.headers.get("Retry-After", "")
            return f"it answered {response.status_code}", float(asked) if asked.isdecimal() else None
        if response.status_code == httpx2.codes.UNAUTHORIZED:
            raise Unauthenticated(
                "The server does not know this SDK key.",
                hint="`outhaul apps list` on the server shows the keys.",
            )
        refusal = TooLarge if response.status_code == httpx2.codes.CONTENT_TOO_LARGE else Invalid
        raise refusal(
            f"The server answered {response.status_code}: {response.text[:500]}",
            hint="Check the URL, which is the server's base URL, and the records.",
        )
