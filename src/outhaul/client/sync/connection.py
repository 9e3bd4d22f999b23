# Made from the module of the same name in `aio` by `python -m outhaul.client.generate`; edit that one.
"""One server, spoken to: requests are let in, repeated where that is safe, and answered or refused."""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeVar

import httpx2
import msgspec

from outhaul.client.requests import (
    AGENT,
    API,
    Access,
    AccessToken,
    Patience,
    Retries,
    decoded,
    lost,
    refusal,
    token_form,
    token_refusal,
    was_sent,
)
from outhaul.client.sync.running import Lock, sleep
from outhaul.errors import Busy

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

T = TypeVar("T")


class Connection:
    def __init__(self, access: Access, timeout_s: float, retries: Retries) -> None:
        self.access = access
        self.timeout_s = timeout_s
        self._retries = retries
        self._lock = Lock()
        self._token = access.token
        self._renew_at = float("inf") if access.token else 0.0
        self._http = httpx2.Client(timeout=timeout_s, headers={"User-Agent": AGENT})

    def close(self) -> None:
        self._http.close()

    def patience(self) -> Patience:
        """For work that takes several requests."""
        return Patience(self._retries)

    def get(
        self,
        path: str,
        shape: type[T],
        params: Mapping[str, str] | None = None,
        *,
        once_within_s: float = 0.0,
    ) -> T:
        """What is there; with `once_within_s` asked for only once, and for so many seconds at most."""
        request = self._request("GET", path, params=params)
        if not once_within_s:
            return decoded(self._insist(request, repeat=True), shape)
        request.extensions["timeout"] = httpx2.Timeout(once_within_s).as_dict()
        try:
            response = self._send(request)
        except httpx2.RequestError as error:
            raise lost(self.access.url, error) from error
        return decoded(_accepted(response), shape)

    def content(self, path: str) -> bytes:
        """What is there, as it is."""
        return (self._insist(self._request("GET", path), repeat=True)).content

    def tell(
        self,
        method: str,
        path: str,
        shape: type[T],
        *,
        body: object = None,
        headers: Mapping[str, str] | None = None,
        repeat: bool,
    ) -> T:
        """Have something done; `repeat` says whether that is the same done twice.

        What is not is repeated only while the server cannot have got it.
        """
        content = None if body is None else msgspec.json.encode(body)
        more = {"Content-Type": "application/json", **(headers or {})} if content is not None else headers
        request = self._request(method, path, content=content, headers=more)
        return decoded(self._insist(request, repeat=repeat), shape)

    @contextmanager
    def stream(
        self, path: str, headers: Mapping[str, str], timeout_s: float | None = None
    ) -> Iterator[httpx2.Response]:
        """An answer that is read as it comes. Nothing is repeated; a connection lost on the way is `Unreachable`."""
        # Compressed on the way, a range of bytes would not be one of the file.
        request = self._request("GET", path, headers={"Accept-Encoding": "identity", **headers})
        if timeout_s is not None:
            request.extensions["timeout"] = httpx2.Timeout(self.timeout_s, read=timeout_s).as_dict()
        try:
            response = self._send(request, stream=True)
            try:
                if not response.is_success:
                    response.read()
                yield _accepted(response)
            finally:
                response.close()
        except httpx2.RequestError as error:
            raise lost(self.access.url, error) from error

    def _request(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, str] | None = None,
        content: bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> httpx2.Request:
        url = f"{self.access.url}{API}{path}"
        return self._http.build_request(method, url, params=params, content=content, headers=headers)

    def _insist(self, request: httpx2.Request, *, repeat: bool) -> httpx2.Response:
        patience = self.patience()
        while True:
            try:
                return _accepted(self._send(request))
            except httpx2.RequestError as error:
                failure: Busy = lost(self.access.url, error)
                if was_sent(error) and not repeat:
                    raise failure from error
            except Busy as error:
                if not repeat:
                    raise
                failure = error
            sleep(patience.pause(failure))

    def _send(self, request: httpx2.Request, *, stream: bool = False) -> httpx2.Response:
        token = self._bearer()
        request.headers["Authorization"] = f"Bearer {token}"
        response = self._http.send(request, stream=stream)
        if response.status_code == httpx2.codes.UNAUTHORIZED and self.access.client_id:
            # It may have been withdrawn before its time; another is tried once.
            response.close()
            request.headers["Authorization"] = f"Bearer {self._bearer(instead_of=token)}"
            response = self._http.send(request, stream=stream)
        return response

    def _bearer(self, instead_of: str = "") -> str:
        with self._lock:
            if time.monotonic() >= self._renew_at or self._token == instead_of:
                answer = self._http.post(f"{self.access.url}/oauth2/token", data=token_form(self.access))
                if not answer.is_success:
                    raise token_refusal(answer, self.access)
                issued = decoded(answer, AccessToken)
                self._token = issued.access_token
                self._renew_at = time.monotonic() + issued.use_for_s
            return self._token


def _accepted(response: httpx2.Response) -> httpx2.Response:
    if not response.is_success:
        raise refusal(response)
    return response
