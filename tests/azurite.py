"""A real storage emulator (Azurite, blob service only) and the tokens that exports are given for it."""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
import subprocess
import urllib.error
import urllib.request
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING
from urllib.parse import quote, urlencode
from xml.etree import ElementTree as ET

if TYPE_CHECKING:
    from pathlib import Path

ACCOUNT = "devstoreaccount1"
# The emulator's key is public knowledge: it is printed in Azurite's own README.
KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
VERSION = "2021-08-06"


class Azurite:
    """The emulator as a process of its own, on a free port; `url` is where its one account lives."""

    def __init__(self, node: Path) -> None:
        self._process = subprocess.Popen(
            [
                str(node / "node_modules/.bin/azurite-blob"),
                *("--blobHost", "127.0.0.1", "--blobPort", "0"),
                *("--inMemoryPersistence", "--skipApiVersionCheck", "--disableTelemetry", "--silent"),
            ],
            stdout=subprocess.PIPE,
            text=True,
        )
        self.url = f"{self._listening()}/{ACCOUNT}"

    def close(self) -> None:
        self._process.terminate()
        self._process.communicate(timeout=10)

    def container(self, name: str, permissions: str = "wl", expires_in_s: int = 3600) -> str:
        """The URL of the container `name`, made if missing, with a token that allows `permissions` there."""
        try:
            self._request("PUT", f"/{name}?restype=container")
        except urllib.error.HTTPError as error:
            if error.headers.get("x-ms-error-code") != "ContainerAlreadyExists":
                raise
        return self.address(name, permissions, expires_in_s)

    def address(self, name: str, permissions: str = "wl", expires_in_s: int = 3600) -> str:
        """The same URL, whether there is such a container or not."""
        token = self._service_sas(name, permissions, expires_in_s)
        return f"{self.url}/{name}?{urlencode(token, quote_via=quote)}"

    def upload(self, name: str, blob: str, content: bytes, permissions: str = "r") -> str:
        """Put a blob into the container `name`; its URL, with a token that allows `permissions`."""
        self.container(name)
        self._request("PUT", f"/{name}/{quote(blob)}", content)
        url, _, token = self.address(name, permissions).partition("?")
        return f"{url}/{quote(blob)}?{token}"

    def blobs(self, name: str) -> dict[str, bytes]:
        """Every finished blob of the container, by name."""
        listing = ET.fromstring(self._request("GET", f"/{name}?restype=container&comp=list")[1])
        names = [element.text or "" for element in listing.iterfind("./Blobs/Blob/Name")]
        return {blob: self._request("GET", f"/{name}/{quote(blob)}")[1] for blob in names}

    def properties(self, name: str, blob: str) -> dict[str, str]:
        """The headers that describe one blob, names in lower case."""
        return self._request("HEAD", f"/{name}/{quote(blob)}")[0]

    def block_sizes(self, name: str, blob: str) -> list[int]:
        """The sizes of the blocks that the blob was put together from; none if it was sent in one request."""
        listing = ET.fromstring(self._request("GET", f"/{name}/{quote(blob)}?comp=blocklist")[1])
        return [int(element.text or 0) for element in listing.iterfind("./CommittedBlocks/Block/Size")]

    def _listening(self) -> str:
        assert self._process.stdout is not None
        seen = []
        for line in self._process.stdout:
            seen.append(line)
            if found := re.search(r"successfully listens on (\S+)", line):
                return found[1]
        raise RuntimeError(f"The storage emulator did not start:\n{''.join(seen)}")

    def _request(
        self, method: str, target: str, content: bytes | None = None
    ) -> tuple[dict[str, str], bytes]:
        url = f"{self.url}{target}{'&' if '?' in target else '?'}{urlencode(self._account_sas())}"
        headers = {"x-ms-version": VERSION}
        if content is not None:
            headers |= {"x-ms-blob-type": "BlockBlob", "content-type": "application/octet-stream"}
        request = urllib.request.Request(url, content, headers, method=method)
        with urllib.request.urlopen(request, timeout=30) as response:
            return {key.lower(): value for key, value in response.headers.items()}, response.read()

    def _account_sas(self) -> dict[str, str]:
        """A token for everything, as "Create an account SAS" in the REST reference describes it."""
        expiry = _time(3600)
        signed = [ACCOUNT, "rwdlac", "b", "sco", "", expiry, "", "", VERSION, "", ""]
        return {"sv": VERSION, "ss": "b", "srt": "sco", "sp": "rwdlac", "se": expiry, "sig": _sign(signed)}

    def _service_sas(self, name: str, permissions: str, expires_in_s: int) -> dict[str, str]:
        """A token for one container, as "Create a service SAS" in the REST reference describes it."""
        expiry = _time(expires_in_s)
        resource = f"/blob/{ACCOUNT}/{name}"
        signed = [permissions, "", expiry, resource, *[""] * 3, VERSION, "c", *[""] * 7]
        return {"sv": VERSION, "sr": "c", "sp": permissions, "se": expiry, "sig": _sign(signed)}


def _time(in_s: int) -> str:
    return (datetime.now(UTC) + timedelta(seconds=in_s)).strftime("%Y-%m-%dT%H:%M:%SZ")


def _sign(parts: list[str]) -> str:
    digest = hmac.digest(base64.b64decode(KEY), "\n".join(parts).encode(), hashlib.sha256)
    return base64.b64encode(digest).decode()
