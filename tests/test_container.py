"""Deliveries: where they may go, that they arrive whole, and what is said when they do not."""

from __future__ import annotations

import os
import re
import shutil
import socket
import ssl
import subprocess
import sys
import threading
import traceback
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, parse_qsl, quote, unquote, urlsplit

import pytest
import trustme

from outhaul import container
from outhaul.container import BLOCK_BYTES, MAX_BLOCKS, Destinations, block_bytes
from outhaul.errors import (
    DestinationDenied,
    DestinationError,
    DestinationMissing,
    DestinationRefused,
    DestinationUnreachable,
    Invalid,
    OuthaulError,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from azurite import Azurite

MIB = 1024 * 1024
NOW = datetime(2030, 1, 1, tzinfo=UTC).timestamp()
SIGNATURE = "c2VjcmV0+c2VjcmV0/c2VjcmV0c2VjcmV0c2VjcmV0c2U="
TOKEN = f"sv=2021-08-06&sr=c&sp=wl&se=2030-01-02T00%3A00%3A00Z&sig={quote(SIGNATURE, safe='')}"
NAMES = {
    "acct.blob.core.windows.net": ["20.60.1.2"],
    "acct.blob.core.chinacloudapi.cn": ["40.73.1.2"],
    "acct.z17.blob.storage.azure.net": ["20.60.1.3"],
    "v6.blob.core.windows.net": ["2603:1030::1"],
    "nat64.blob.core.windows.net": ["64:ff9b::143c:102"],
    "files.example.com": ["93.184.215.14"],
    "inner.example.com": ["10.1.2.3"],
    "half.example.com": ["93.184.215.14", "192.168.1.1"],
    "mapped.example.com": ["::ffff:127.0.0.1"],
    "metadata.google.internal": ["169.254.169.254"],
    "minio.inner": ["10.0.0.9"],
    "allowed": ["93.184.215.14"],
}


def named(host: str, _port: int) -> list[str]:
    return NAMES.get(host, [])


def destinations(allowed: str = "") -> Destinations:
    return Destinations(allowed, resolve=named, now=lambda: NOW)


def everything_told(error: BaseException) -> str:
    """What a log, a page or a stored task could show of an error: its words, its causes, its traceback."""
    told = [str(error), repr(error), *map(str, error.args), str(getattr(error, "hint", ""))]
    told.append("".join(traceback.format_exception(error)))
    told += [everything_told(other) for other in (error.__cause__, error.__context__) if other]
    return "\n".join(told)


@contextmanager
def failing_quietly(expected: type[OuthaulError], url: str) -> Iterator[pytest.ExceptionInfo[OuthaulError]]:
    """Expect exactly this error, and that nothing about it shows the token of `url`."""
    with pytest.raises(expected) as caught:
        yield caught
    assert type(caught.value) is expected
    told = everything_told(caught.value)
    secrets = [secret for secret in re.findall(r"sig=([^&]+)", url) if secret]
    assert not any(secret in told or unquote(secret) in told for secret in secrets)
    assert caught.value.message
    assert caught.value.hint


# --- what may be written to ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    "url",
    [
        f"https://acct.blob.core.windows.net/exports?{TOKEN}",
        f"  https://acct.blob.core.windows.net/exports?{TOKEN}\n",
        f"HTTPS://ACCT.blob.core.windows.net:443/exports/?{TOKEN}",
        f"https://acct.blob.core.windows.net./exports/2030/january?{TOKEN}",
        f"https://acct.blob.core.windows.net/$web?{TOKEN}",
        f"https://acct.blob.core.chinacloudapi.cn/exports?{TOKEN}",
        f"https://acct.z17.blob.storage.azure.net/exports?{TOKEN}",
        f"https://v6.blob.core.windows.net/exports?{TOKEN}",
        f"https://nat64.blob.core.windows.net/exports?{TOKEN}",
        f"https://files.example.com/exports?{TOKEN}",
        f"https://20.60.1.2/acct/exports?{TOKEN}",
        f"https://[2603:1030::1]/acct/exports?{TOKEN}",
        # A name that nobody knows yet, a token that has run out or is missing: delivery will find out.
        f"https://unknown.blob.core.windows.net/exports?{TOKEN}",
        "https://acct.blob.core.windows.net/exports?se=2001-01-01&sp=wl&sig=abc",
        "https://acct.blob.core.windows.net/exports",
    ],
)
def test_public_https_is_allowed(url: str) -> None:
    destinations().check(url)


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "127.1",
        "2130706433",
        "0x7f.1",
        "0x7f000001",
        "0X7F.0.0.1",
        "0177.0.0.1",
        "127.0.0.1.",
        "１２７.0.0.1",  # noqa: RUF001  full-width digits, which name resolution folds into plain ones
        "127。0。0。1",
        "0.0.0.0",
        "0",
        "10.0.0.1",
        "172.16.0.1",
        "192.168.0.1",
        "100.64.0.1",
        "169.254.169.254",
        "0xa9fea9fe",
        "168.63.129.16",
        "192.0.0.192",
        "198.18.0.1",
        "224.0.0.1",
        "239.1.2.3",
        "240.0.0.1",
        "255.255.255.255",
        "[::1]",
        "[::]",
        "[::ffff:127.0.0.1]",
        "[::ffff:a00:1]",
        "[::127.0.0.1]",
        "[64:ff9b::a00:1]",
        "[2002:7f00:1::]",
        "[fe80::1]",
        "[fe80::1%25eth0]",
        "[fc00::1]",
        "[fd00:ec2::254]",
        "[fec0::1]",
        "[ff02::1]",
        "[2001:db8::1]",
        "localhost",
        "LOCALHOST.",
        "acct.blob.localhost",
        "inner.example.com",
        "INNER.example.com.",
        "half.example.com",
        "mapped.example.com",
        "metadata.google.internal",
        "allowed@10.0.0.1",
        "acct.blob.core.windows.net@10.0.0.1",
        "acct.blob.core.windows.net:443@10.0.0.1",
        "acct.blob.core.windows.net%2F@10.0.0.1",
    ],
)
def test_private_addresses_are_refused_however_they_are_spelled(host: str) -> None:
    for path in ("acct/exports", "exports"):
        url = f"https://{host}/{path}?{TOKEN}"
        with failing_quietly(DestinationRefused, url) as caught:
            destinations().check(url)
        assert "OUTHAUL_DESTINATIONS" in caught.value.hint
        with failing_quietly(DestinationRefused, url):
            destinations().open(url, timeout_s=1)


@pytest.mark.parametrize(
    "url",
    [
        f"http://acct.blob.core.windows.net/exports?{TOKEN}",
        f"http://unknown.example.com/exports?{TOKEN}",
        f"http://2130706433/devstoreaccount1/exports?{TOKEN}",
        f"http://0x7f.1/devstoreaccount1/exports?{TOKEN}",
        f"http://127.0.0.1:10000/devstoreaccount1/exports?{TOKEN}",
        "file:///srv/exports/",
        "file:///etc/passwd",
        "file://localhost/srv/exports/",
        "file:/srv/exports",
    ],
)
def test_http_and_folders_are_refused_unless_allowed(url: str) -> None:
    with failing_quietly(DestinationRefused, url):
        destinations().check(url)


def test_a_refusal_names_scheme_and_host_and_the_prefix_to_add() -> None:
    with pytest.raises(DestinationRefused) as caught:
        destinations().check(f"http://127.1:10000/devstoreaccount1/hidden?{TOKEN}")
    assert "http://127.0.0.1" in caught.value.message
    assert "http://127.0.0.1:10000/ " in caught.value.hint
    assert "hidden" not in str(caught.value)
    with pytest.raises(DestinationRefused) as caught:
        destinations().check("file:///srv/my%20exports/")
    assert "file:///srv/my%20exports/ " in caught.value.hint


def test_the_prefix_of_a_refusal_allows_what_was_refused() -> None:
    for url in (
        f"http://[::1]:10000/acct/exports?{TOKEN}",
        "file:///srv/a%2Cb%25/",
        f"http://minio.inner/exports?{TOKEN}",
    ):
        with pytest.raises(DestinationRefused) as caught:
            destinations().check(url)
        prefix = re.search(r"add (\S+) to", caught.value.hint)
        assert prefix
        destinations(prefix[1]).check(url)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "exports",
        "/srv/exports",
        "DefaultEndpointsProtocol=https;AccountName=acct;AccountKey=abc",
        f"acct.blob.core.windows.net/exports?{TOKEN}",
        f"ftp://acct.blob.core.windows.net/exports?{TOKEN}",
        "s3://bucket/exports",
        "az://exports",
        "data:text/plain,x",
        f"https:///exports?{TOKEN}",
        f"https://acct.blob.core.windows.net?{TOKEN}",
        f"https://acct.blob.core.windows.net/?{TOKEN}",
        f"https://acct.blob.core.windows.net/Exports?{TOKEN}",
        f"https://acct.blob.core.windows.net/e?{TOKEN}",
        f"https://acct.blob.core.windows.net/ex--ports?{TOKEN}",
        f"https://acct.blob.core.windows.net/exports/../other?{TOKEN}",
        f"https://acct.blob.core.windows.net/exports/%2e%2e/other?{TOKEN}",
        f"https://acct.blob.core.windows.net/exports/a%2fb?{TOKEN}",
        f"https://acct.blob.core.windows.net/exports/a%00b?{TOKEN}",
        f"https://acct.blob.core.windows.net/exports/%ff?{TOKEN}",
        f"https://acct.blob.core.windows.net:99999/exports?{TOKEN}",
        f"https://acct.blob.core.windows.net:0/exports?{TOKEN}",
        f"https://acct.blob.core.windows.net:port/exports?{TOKEN}",
        f"https://user:{SIGNATURE}@acct.blob.core.windows.net/exports?sig={quote(SIGNATURE)}",
        f"https://acct.blob.core.windows.net\\@10.0.0.1/exports?{TOKEN}",
        f"https://acct.blob.core.windows.net/exports\t?{TOKEN}",
        f"https://acct.blob.core.windows.net/ex ports?{TOKEN}",
        f"https://acct blob/exports?{TOKEN}",
        f"https://a%2eb/exports?{TOKEN}",
        f"https://1.2.3.4.5/acct/exports?{TOKEN}",
        f"https://256.1.1.1/acct/exports?{TOKEN}",
        f"https://[::1/acct/exports?{TOKEN}",
        f"https://[nonsense]/acct/exports?{TOKEN}",
        f"https://{'a' * 64}.example.com/exports?{TOKEN}",
        f"https://20.60.1.2/exports?{TOKEN}",
        "file://server/share",
        "file:exports",
        "file:///srv/exports/?x=1",
        "file:///srv/exports/%00",
    ],
)
def test_what_is_no_container_is_invalid_and_the_forms_are_told(url: str) -> None:
    with failing_quietly(Invalid, url) as caught:
        destinations("https://1.2.3.4.5.example/,file:///nowhere/").check(url)
    assert "blob.core.windows.net/CONTAINER?TOKEN" in caught.value.hint


# --- prefixes -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("prefix", "url"),
    [
        ("http://127.0.0.1:10000/", "http://127.0.0.1:10000/devstoreaccount1/exports"),
        ("http://127.0.0.1:10000", "http://127.0.0.1:10000/devstoreaccount1/exports"),
        ("http://127.0.0.1:10000/", "http://2130706433:10000/devstoreaccount1/exports"),
        ("http://127.0.0.1:10000/devstoreaccount1/", "http://127.0.0.1:10000/devstoreaccount1/exports"),
        (
            "http://127.0.0.1:10000/devstoreaccount1/exports",
            "http://127.0.0.1:10000/devstoreaccount1/exports/a",
        ),
        ("HTTP://LocalHost:10000/", "http://localhost.:10000/devstoreaccount1/exports"),
        ("http://azurite:10000/", "http://azurite:10000/devstoreaccount1/exports"),
        ("https://minio.inner/", "https://minio.inner:443/exports"),
        ("http://[::1]:10000/", "http://[0:0::1]:10000/devstoreaccount1/exports"),
        (" https://other.inner/ , http://10.0.0.9/,", "http://10.0.0.9/acct/exports"),
    ],
)
def test_a_configured_prefix_allows_what_lies_below_it(prefix: str, url: str) -> None:
    with pytest.raises(DestinationRefused):
        destinations().check(f"{url}?{TOKEN}")
    destinations(prefix).check(f"{url}?{TOKEN}")


@pytest.mark.parametrize(
    ("prefix", "url"),
    [
        ("http://127.0.0.1:10000/", "http://127.0.0.1:10001/devstoreaccount1/exports"),
        ("http://127.0.0.1:10000/", "http://127.0.0.1/devstoreaccount1/exports"),
        ("http://127.0.0.1:10000/", "https://127.0.0.1:10000/devstoreaccount1/exports"),
        ("http://127.0.0.1:10000/", "http://127.0.0.2:10000/devstoreaccount1/exports"),
        ("http://127.0.0.1:10000/", "http://user@127.0.0.1:10000/devstoreaccount1/exports"),
        ("http://127.0.0.1:10000/", "http://127.0.0.1:10000@10.0.0.1/devstoreaccount1/exports"),
        ("http://minio.inner/", "http://minio.inner.example.com/exports"),
        ("http://minio.inner/", "http://xminio.inner/exports"),
        ("http://10.0.0.9/devstore", "http://10.0.0.9/devstoreaccount1/exports"),
        ("http://10.0.0.9/dev/exports", "http://10.0.0.9/dev/exports-other"),
        ("http://10.0.0.9/dev/exports", "http://10.0.0.9/dev/exports/../other"),
        ("http://10.0.0.9/dev/exports", "http://10.0.0.9/dev/exports/%2e%2e/other"),
        ("http://10.0.0.9/dev/exports", "http://10.0.0.9/dev/exports/..%2fother"),
        ("http://10.0.0.9/dev/exports", "http://10.0.0.9/DEV/exports"),
    ],
)
def test_a_configured_prefix_allows_nothing_beside_it(prefix: str, url: str) -> None:
    with failing_quietly(DestinationRefused, f"{url}?{TOKEN}"):
        destinations(prefix).check(f"{url}?{TOKEN}")


@pytest.mark.parametrize(
    "prefix", ["srv/exports", "http://", "ftp://x/", "http://x/?sig=abc", "http://u:abc@x/"]
)
def test_a_prefix_that_cannot_be_understood_is_told_at_the_start(prefix: str) -> None:
    with pytest.raises(Invalid, match="OUTHAUL_DESTINATIONS") as caught:
        destinations(f"http://127.0.0.1/,{prefix}")
    assert "abc" not in everything_told(caught.value)


@pytest.mark.parametrize(
    "path",
    ["exports", "exports/", "exports/a/b", "exports/./a", "exports/a/../b", "/exports//a", "exports/%61"],
)
def test_folders_below_an_allowed_folder(tmp_path: Path, path: str) -> None:
    (tmp_path / "exports").mkdir()
    destinations(f"file://{tmp_path}/exports/").check(f"file://{tmp_path}/{path}")


@pytest.mark.parametrize(
    "path",
    [
        "",
        "exports-other/",
        "exports/../etc",
        "exports/%2e%2e/etc",
        "exports/%2E%2e%2fetc",
        "exports/..%2f..%2fetc",
        "exports/a/../../etc",
        "exports/link/",
        "exports/link/deeper/",
        "exports/%6cink",
        "EXPORTS/",
    ],
)
def test_folders_beside_an_allowed_folder(tmp_path: Path, path: str) -> None:
    (tmp_path / "exports").mkdir()
    (tmp_path / "exports-other").mkdir()
    (tmp_path / "exports" / "link").symlink_to(tmp_path / "exports-other")
    allowed = destinations(f"file://{tmp_path}/exports/")
    with pytest.raises(DestinationRefused):
        allowed.check(f"file://{tmp_path}/{path}")
    with pytest.raises(DestinationRefused):
        allowed.open(f"file://{tmp_path}/{path}", timeout_s=1)


def test_a_name_that_became_private_is_refused_at_delivery() -> None:
    answers = iter([[], ["10.0.0.1"]])
    changing = Destinations(resolve=lambda _host, _port: next(answers), now=lambda: NOW)
    url = f"https://acct.blob.core.windows.net/exports?{TOKEN}"
    changing.check(url)
    with failing_quietly(DestinationRefused, url):
        changing.open(url, timeout_s=1)


def test_a_name_that_does_not_resolve_is_unreachable_at_delivery() -> None:
    url = f"https://unknown.blob.core.windows.net/exports?{TOKEN}"
    with failing_quietly(DestinationUnreachable, url) as caught:
        destinations().open(url, timeout_s=1)
    assert "does not resolve" in caught.value.message


def test_names_are_resolved_as_the_system_does() -> None:
    with pytest.raises(DestinationRefused):
        Destinations().check(f"https://localhost.localdomain.localhost/exports?{TOKEN}")
    assert "127.0.0.1" in container.resolve("localhost", 443)
    assert container.resolve("no-such-host.invalid", 443) == []


# --- tokens that say themselves that they cannot work -------------------------------------------------


@pytest.mark.parametrize(
    ("token", "reason"),
    [
        ("", "no signature"),
        ("sv=2021-08-06&sr=c&sp=wl", "no signature"),
        (f"sp=wl&sig=&se={quote('2030-01-02')}", "no signature"),
        (TOKEN.replace("sp=wl", "sp=rl"), "does not allow writing"),
        (TOKEN.replace("sr=c", "sr=b"), "single blob"),
        (TOKEN.replace("sr=c", "ss=qt&srt=sco"), "not for blobs"),
        (TOKEN.replace("sr=c", "ss=b&srt=sc"), "not for blobs"),
        (
            TOKEN.replace("2030-01-02T00%3A00%3A00Z", "2029-12-31T23%3A50%3A00Z"),
            "expired at 2029-12-31T23:50",
        ),
        (TOKEN.replace("2030-01-02T00%3A00%3A00Z", "2029-12-31"), "expired at 2029-12-31"),
    ],
)
def test_a_useless_token_passes_the_door_and_fails_the_delivery(token: str, reason: str) -> None:
    url = f"https://acct.blob.core.windows.net/exports?{token}"
    destinations().check(url)
    with failing_quietly(DestinationDenied, url) as caught:
        destinations().open(url, timeout_s=1)
    assert reason in caught.value.message


@pytest.mark.parametrize(
    "token",
    [
        TOKEN,
        TOKEN.replace("sp=wl", "sp=c"),
        TOKEN.replace("2030-01-02T00%3A00%3A00Z", "2029-12-31T23%3A59%3A00Z"),  # our clock may be ahead
        TOKEN.replace("2030-01-02T00%3A00%3A00Z", "soon"),
        TOKEN.replace("sr=c&sp=wl", "ss=bqtf&srt=sco&sp=rwdlac"),
        f"sv=2021-08-06&sr=c&si=policy&sig={quote(SIGNATURE)}",
    ],
)
def test_a_token_that_may_work_is_tried(token: str) -> None:
    destinations().open(f"https://acct.blob.core.windows.net/exports?{token}", timeout_s=1)


# --- blob containers ----------------------------------------------------------------------------------


def emulated(azurite: Azurite) -> Destinations:
    return Destinations(azurite.url)


def test_write_and_list_permission_is_enough(azurite: Azurite, tmp_path: Path) -> None:
    file = tmp_path / "local"
    file.write_bytes(b"[\n]")
    url = azurite.container("small", "wl")
    opened = emulated(azurite).open(url, timeout_s=10)
    opened.put_file("Activity_1.json", file, "application/json")
    opened.put_bytes("Activity_1.csv", b"a,b\r\n", "text/csv; charset=utf-8")
    opened.put_bytes("empty", b"", "text/plain")
    assert azurite.blobs("small") == {"Activity_1.json": b"[\n]", "Activity_1.csv": b"a,b\r\n", "empty": b""}
    assert azurite.properties("small", "Activity_1.json")["content-type"] == "application/json"
    assert azurite.properties("small", "Activity_1.csv")["content-type"] == "text/csv; charset=utf-8"


def test_a_large_file_goes_in_blocks_and_tells_its_progress(azurite: Azurite, tmp_path: Path) -> None:
    file = tmp_path / "local"
    content = os.urandom(MIB) * 21 + b"the end"
    file.write_bytes(content)
    told: list[int] = []
    opened = emulated(azurite).open(azurite.container("large", "wl"), timeout_s=30)
    opened.put_file("large.json", file, "application/json", told.append)
    assert azurite.blobs("large") == {"large.json": content}
    assert azurite.properties("large", "large.json")["content-type"] == "application/json"
    assert azurite.block_sizes("large", "large.json") == [8 * MIB, 8 * MIB, len(content) - 16 * MIB]
    assert told == [0, 8 * MIB, 16 * MIB, len(content)]


def test_a_delivery_can_be_repeated(azurite: Azurite, tmp_path: Path) -> None:
    file = tmp_path / "local"
    url = azurite.container("again", "w")
    for size in (9 * MIB, 3, 10 * MIB):
        file.write_bytes(bytes(size))
        emulated(azurite).open(url, timeout_s=10).put_file("a.json", file, "application/json")
        assert azurite.blobs("again") == {"a.json": bytes(size)}


def test_a_delivery_that_is_stopped_leaves_nothing(azurite: Azurite, tmp_path: Path) -> None:
    file = tmp_path / "local"
    file.write_bytes(bytes(30 * MIB))

    def stop(sent: int) -> None:
        if sent:
            raise KeyError("cancelled")

    opened = emulated(azurite).open(azurite.container("stopped"), timeout_s=10)
    with pytest.raises(KeyError, match="cancelled"):
        opened.put_file("a.json", file, "application/json", stop)
    assert azurite.blobs("stopped") == {}


def test_folders_of_a_container_and_awkward_names(azurite: Azurite) -> None:
    base, _, token = azurite.container("prefixed").partition("?")
    url = f"{base}/a%20b//%C3%BC%2525+%23/?{token}"
    emulated(azurite).open(url, timeout_s=10).put_bytes("sub/50% (1)+.json", b"x", "application/json")
    assert azurite.blobs("prefixed") == {"a b/ü%25+#/sub/50% (1)+.json": b"x"}


def test_a_signature_is_found_however_it_is_encoded(azurite: Azurite) -> None:
    url = azurite.container("encoded")
    while "%2B" not in url:  # a signature has a plus sign more often than not
        url = azurite.address("encoded", expires_in_s=4000 + len(url) + int.from_bytes(os.urandom(2), "big"))
    for spelled in (
        url,
        url.replace("%2B", "+"),
        url.replace("%2F", "/").replace("%3D", "=").replace("%3A", ":"),
    ):
        emulated(azurite).open(spelled, timeout_s=10).put_bytes("a.json", b"x", "application/json")


@pytest.mark.parametrize("name", ["", ".", "..", "../a", "a/../b", "/a", "a/", "a\\b", "a\nb"])
def test_a_name_is_a_name(azurite: Azurite, tmp_path: Path, name: str) -> None:
    opened = emulated(azurite).open(azurite.container("names"), timeout_s=10)
    folder = Destinations(f"file://{tmp_path}").open(f"file://{tmp_path}/x", timeout_s=10)
    for place in (opened, folder):
        with pytest.raises(Invalid):
            place.put_bytes(name, b"x", "text/plain")
    assert azurite.blobs("names") == {}
    assert list(tmp_path.rglob("*")) == []


def test_the_environment_of_other_azure_tools_does_not_matter(
    azurite: Azurite, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {
        "AZURE_STORAGE_ACCOUNT_NAME": "other",
        "AZURE_STORAGE_ACCOUNT_KEY": "b3RoZXI=",
        "AZURE_STORAGE_SAS_TOKEN": "sig=other",
        "AZURE_STORAGE_USE_EMULATOR": "true",
        "AZURE_SKIP_SIGNATURE": "true",
        "AZURE_STORAGE_ENDPOINT": "http://127.0.0.1:9",
        "AZURE_CONTAINER_NAME": "other",
        "AZURE_CREDENTIAL_TYPE": "azure_cli",
    }.items():
        monkeypatch.setenv(name, value)
    emulated(azurite).open(azurite.container("unmoved"), timeout_s=10).put_bytes("a", b"x", "text/plain")
    assert azurite.blobs("unmoved") == {"a": b"x"}


def test_blocks_are_large_enough_for_files_of_any_size() -> None:
    assert block_bytes(0) == block_bytes(300 * 1024 * MIB) == BLOCK_BYTES
    for size in (BLOCK_BYTES * MAX_BLOCKS, BLOCK_BYTES * MAX_BLOCKS + 1, 5 * 1024**4, 100 * 1024**4):
        assert size <= block_bytes(size) * MAX_BLOCKS <= size * 1.2
        assert block_bytes(size) % MIB == 0


def test_memory_stays_bounded(azurite: Azurite, tmp_path: Path) -> None:
    file = tmp_path / "local"
    with file.open("wb") as sparse:
        sparse.truncate(300 * MIB)
    program = (
        "import resource, sys; from pathlib import Path; from outhaul.container import Destinations\n"
        "peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024\n"
        "opened = Destinations(sys.argv[1]).open(sys.argv[2], timeout_s=60)\n"
        "opened.put_bytes('warm', bytes(10), 'text/plain'); before = peak()\n"
        "opened.put_file('large', Path(sys.argv[3]), 'text/plain'); print(peak() - before)\n"
    )
    url = azurite.container("memory", "w")
    ran = subprocess.run(
        [sys.executable, "-c", program, azurite.url, url, str(file)],
        capture_output=True,
        text=True,
        check=True,
    )
    assert int(ran.stdout) < 100
    assert azurite.properties("memory", "large")["content-length"] == str(300 * MIB)


# --- what is said when a container does not take a file -----------------------------------------------


@pytest.mark.parametrize("size", [10, 20 * MIB])
def test_refused_tokens(azurite: Azurite, tmp_path: Path, size: int) -> None:
    file = tmp_path / "local"
    file.write_bytes(bytes(size))
    good = azurite.container("refusing")
    for url, word in (
        (azurite.container("refusing", "wl", expires_in_s=-60), "expired"),
        (re.sub(r"sig=[^&]{6}", "sig=AAAAAA", good), "copied whole"),
        (good.replace("sp=wl", "sp=rwl"), "copied whole"),
        (azurite.container("other").replace("/other?", "/refusing?"), "copied whole"),
    ):
        with failing_quietly(DestinationDenied, url) as caught:
            emulated(azurite).open(url, timeout_s=10).put_file("a", file, "text/plain")
        assert "403 AuthorizationFailure" in caught.value.message
        assert word in caught.value.hint
    assert azurite.blobs("refusing") == {}


def test_a_token_that_cannot_write(azurite: Azurite) -> None:
    url = azurite.container("read-only", "rl")
    with failing_quietly(DestinationDenied, url) as caught:
        emulated(azurite).open(url, timeout_s=10)
    assert "writing" in caught.value.message
    # Create permission says that it may write, but not over what is there.
    url = azurite.container("read-only", "cl")
    opened = emulated(azurite).open(url, timeout_s=10)
    opened.put_bytes("a", b"x", "text/plain")
    with failing_quietly(DestinationDenied, url) as caught:
        opened.put_bytes("a", b"x", "text/plain")
    assert "lacks Write permission" in caught.value.hint


@pytest.mark.parametrize("size", [10, 20 * MIB])
def test_a_missing_container(azurite: Azurite, tmp_path: Path, size: int) -> None:
    file = tmp_path / "local"
    file.write_bytes(bytes(size))
    url = azurite.address("never-made")
    with failing_quietly(DestinationMissing, url) as caught:
        emulated(azurite).open(url, timeout_s=10).put_file("a", file, "text/plain")
    assert "ContainerNotFound" in caught.value.message


def test_a_missing_local_file_is_not_a_missing_container(azurite: Azurite, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    allowed = Destinations(f"{azurite.url},file://{tmp_path}/folder")
    for url in (azurite.container("local"), f"file://{tmp_path}/folder"):
        with pytest.raises(FileNotFoundError):
            allowed.open(url, timeout_s=10).put_file("a", tmp_path / "gone", "text/plain")


def test_a_host_that_is_not_there() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        origin = f"http://127.0.0.1:{free.getsockname()[1]}"
        url = f"{origin}/acct/exports?{TOKEN}"
        with failing_quietly(DestinationUnreachable, url) as caught:
            Destinations(origin, now=lambda: NOW).open(url, timeout_s=5).put_bytes("a", b"x", "text/plain")
    assert "cannot be reached" in caught.value.message


def test_a_host_that_never_answers(tmp_path: Path) -> None:
    file = tmp_path / "local"
    file.write_bytes(bytes(20 * MIB))
    with socket.create_server(("127.0.0.1", 0)) as silent:
        origin = f"http://127.0.0.1:{silent.getsockname()[1]}"
        url = f"{origin}/acct/exports?{TOKEN}"
        with failing_quietly(DestinationUnreachable, url) as caught:
            Destinations(origin, now=lambda: NOW).open(url, timeout_s=1).put_file("a", file, "text/plain")
    assert "did not answer in time" in caught.value.message


class Answering(BaseHTTPRequestHandler):
    """Answers with the status that the path's first name ends in, and repeats the token wherever it can."""

    def do_PUT(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        self.server.seen.append(self.path)  # type: ignore[attr-defined]
        token = parse_qs(urlsplit(self.path).query)["sig"][0]
        code = re.sub(r"[^A-Za-z]", "", token) if "echo" in self.path else "SomeCode"
        body = f"<Error><Code>{code}</Code><Message>{self.path} {token}</Message></Error>".encode()
        self.send_response(
            int(urlsplit(self.path).path.split("/")[1].split("-")[-1]), f"Because of {self.path}"
        )
        self.send_header("Location", "/elsewhere-201/exports/a?sig=x")
        self.send_header("x-ms-error-code", code)
        self.send_header("Content-Length", str(len(body)))
        with suppress(ConnectionError):  # of several blocks sent at once, the first refused ends them all
            self.end_headers()
            self.wfile.write(body)

    def log_message(self, *_arguments: object) -> None:
        pass


@pytest.fixture
def answering() -> Iterator[ThreadingHTTPServer]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Answering) as server:
        server.seen = []  # type: ignore[attr-defined]
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        yield server
        server.shutdown()


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (201, DestinationError),  # without the ETag that every container gives
        (302, DestinationError),
        (307, DestinationError),
        (400, DestinationError),
        (401, DestinationDenied),
        (403, DestinationDenied),
        (404, DestinationMissing),
        (408, DestinationUnreachable),
        (409, DestinationError),
        (412, DestinationError),
        (413, DestinationError),
        (429, DestinationUnreachable),
        (500, DestinationUnreachable),
        (503, DestinationUnreachable),
    ],
)
def test_answers_become_our_errors(
    answering: ThreadingHTTPServer, tmp_path: Path, status: int, expected: type[OuthaulError]
) -> None:
    file = tmp_path / "local"
    file.write_bytes(bytes(9 * MIB))
    origin = f"http://127.0.0.1:{answering.server_port}"
    allowed = Destinations(origin, now=lambda: NOW)
    for account in (f"x-{status}", f"echo-{status}"):
        url = f"{origin}/{account}/exports?{TOKEN.partition('sig=')[0]}sig=abcdefABCDEFabcdefABCDEF"
        with failing_quietly(expected, url) as caught:
            allowed.open(url, timeout_s=10).put_bytes("a", b"x", "text/plain")
        if status != 201:
            assert str(status) in caught.value.message
            with failing_quietly(expected, url):
                allowed.open(url, timeout_s=10).put_file("a", file, "text/plain")
    seen: list[str] = answering.seen  # type: ignore[attr-defined]
    assert seen
    assert not [path for path in seen if path.startswith("/elsewhere")], "a redirect was followed"


@pytest.mark.parametrize(
    ("host", "path", "asked"),
    [
        ("acct.blob.core.windows.net", "exports-201", "exports-201/a"),
        ("acct.blob.core.windows.net:10000", "exports-201/b/c", "exports-201/b/c/a"),
        ("acct.z17.blob.storage.azure.net", "exports-201", "exports-201/a"),
        ("files.example.com", "exports-201", "exports-201/a"),
        ("azurite", "acct-201/exports", "acct-201/exports/a"),
        ("storage.example.com:10000", "acct-201/exports/b", "acct-201/exports/b/a"),
    ],
)
def test_the_account_is_in_the_host_or_first_in_the_path(
    answering: ThreadingHTTPServer, monkeypatch: pytest.MonkeyPatch, host: str, path: str, asked: str
) -> None:
    # As a proxy, the server sees requests for hosts that it is not.
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{answering.server_port}")
    url = f"http://{host}/{path}?restype=container&comp=list&{TOKEN}"  # as copied from a listing
    with failing_quietly(DestinationError, url):
        Destinations(f"http://{host}/", now=lambda: NOW).open(url, timeout_s=5).put_bytes(
            "a", b"x", "text/plain"
        )
    request, query = answering.seen[0].split("?")  # type: ignore[attr-defined]
    assert request == f"http://{host}/{asked}"
    assert dict(parse_qsl(query)) == dict(parse_qsl(TOKEN))


def test_a_certificate_that_nobody_vouches_for() -> None:
    with ThreadingHTTPServer(("127.0.0.1", 0), Answering) as server:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        trustme.CA().issue_cert("127.0.0.1").configure_cert(context)
        server.socket = context.wrap_socket(server.socket, server_side=True)
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        origin = f"https://127.0.0.1:{server.server_port}"
        url = f"{origin}/x-201/exports?{TOKEN}"
        with failing_quietly(DestinationError, url) as caught:
            Destinations(origin, now=lambda: NOW).open(url, timeout_s=5).put_bytes("a", b"x", "text/plain")
        server.shutdown()
    assert "certificate" in caught.value.message


def test_a_container_does_not_show_its_token() -> None:
    opened = destinations().open(f"https://acct.blob.core.windows.net/exports?{TOKEN}", timeout_s=1)
    shown = "".join(map(repr, (opened, *vars(opened).values())))
    assert SIGNATURE not in shown
    assert quote(SIGNATURE, safe="") not in shown


# --- folders ------------------------------------------------------------------------------------------


def test_a_folder_takes_files_by_link(tmp_path: Path) -> None:
    file = tmp_path / "local"
    file.write_bytes(b"content")
    file.chmod(0o600)
    (tmp_path / "out").mkdir()
    told: list[int] = []
    opened = Destinations(f"file://{tmp_path}/out/").open(
        f"file://{tmp_path}/out/2030/jan%20uary", timeout_s=1
    )
    assert not (tmp_path / "out" / "2030").exists()
    for _ in range(2):  # the second time over the same file, as a resumed delivery does
        opened.put_file("a.json", file, "application/json", told.append)
        opened.put_bytes("a.manifest.json", b"{}", "application/json")
    folder = tmp_path / "out" / "2030" / "jan uary"
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == {
        "a.json": b"content",
        "a.manifest.json": b"{}",
    }
    assert (folder / "a.json").samefile(file)
    assert {path.stat().st_mode & 0o777 for path in folder.iterdir()} == {0o644}
    assert told == [7, 7]


def test_a_folder_on_another_file_system_takes_copies(tmp_path: Path) -> None:
    shared_memory = Path("/dev/shm")
    if not shared_memory.is_dir() or shared_memory.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("needs a second file system")
    file = shared_memory / f"outhaul-{os.getpid()}"
    told: list[int] = []
    try:
        file.write_bytes(bytes(9 * MIB))
        opened = Destinations(f"file://{tmp_path}").open(f"file://{tmp_path}", timeout_s=1)
        opened.put_file("a.json", file, "application/json", told.append)
        file.write_bytes(b"other")
        opened.put_file("b.json", file, "application/json")
    finally:
        file.unlink()
    assert {path.name: path.stat().st_size for path in tmp_path.iterdir()} == {"a.json": 9 * MIB, "b.json": 5}
    assert told == [8 * MIB, 9 * MIB, 9 * MIB]


def test_a_copy_that_is_stopped_leaves_nothing(tmp_path: Path) -> None:
    shared_memory = Path("/dev/shm")
    if not shared_memory.is_dir() or shared_memory.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("needs a second file system")
    file = shared_memory / f"outhaul-stopped-{os.getpid()}"

    def stop(_sent: int) -> None:
        raise KeyError("cancelled")

    try:
        file.write_bytes(bytes(9 * MIB))
        with pytest.raises(KeyError, match="cancelled"):
            Destinations(f"file://{tmp_path}").open(f"file://{tmp_path}", timeout_s=1).put_file(
                "a.json", file, "application/json", stop
            )
    finally:
        file.unlink()
    assert list(tmp_path.iterdir()) == []


def test_a_link_put_in_the_way_later_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "elsewhere").mkdir()
    opened = Destinations(f"file://{tmp_path}/out").open(f"file://{tmp_path}/out/a/b", timeout_s=1)
    (tmp_path / "out" / "a").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(DestinationRefused):
        opened.put_bytes("x.json", b"x", "application/json")
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_the_folder_that_the_operator_allowed_is_made_when_it_is_not_there(tmp_path: Path) -> None:
    opened = Destinations(f"file://{tmp_path}/new/").open(f"file://{tmp_path}/new/a", timeout_s=1)
    opened.put_bytes("x.json", b"x", "application/json")
    assert (tmp_path / "new" / "a" / "x.json").read_bytes() == b"x"


def test_folders_that_are_in_the_way(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    opened = Destinations(f"file://{tmp_path}").open(f"file://{tmp_path}/file/deeper", timeout_s=1)
    with pytest.raises(DestinationMissing):
        opened.put_bytes("x", b"x", "text/plain")
    (tmp_path / "taken").mkdir()
    with pytest.raises(DestinationError, match="Is a directory"):
        Destinations(f"file://{tmp_path}").open(f"file://{tmp_path}", timeout_s=1).put_bytes(
            "taken", b"x", "text/plain"
        )
    assert {path.name for path in tmp_path.iterdir()} == {"file", "taken"}


def test_a_folder_that_may_not_be_written_to() -> None:
    if not Path("/sys/kernel").is_dir():
        pytest.skip("needs a folder that even root may not write to")
    opened = Destinations("file:///sys/kernel/").open("file:///sys/kernel/", timeout_s=1)
    with pytest.raises(DestinationDenied, match="may not be written to"):
        opened.put_bytes("x", b"x", "text/plain")


def test_a_full_folder(tmp_path: Path) -> None:
    full = tmp_path / "full"
    full.mkdir()
    (tmp_path / "local").write_bytes(bytes(3 * MIB))
    mount = [
        "unshare",
        "--map-root-user",
        "--mount",
        "sh",
        "-c",
        f'mount -t tmpfs -o size=1m none {full} && "$@"',
        "-",
    ]
    if (
        not shutil.which("unshare")
        or subprocess.run([*mount, "true"], check=False, capture_output=True).returncode
    ):
        pytest.skip("needs the right to mount a small disk")
    program = (
        "import sys; from pathlib import Path; from outhaul.container import Destinations\n"
        "from outhaul.errors import DestinationError\n"
        "opened = Destinations(f'file://{sys.argv[1]}').open(f'file://{sys.argv[1]}', timeout_s=1)\n"
        "try: opened.put_file('a.json', Path(sys.argv[2]), 'application/json')\n"
        "except DestinationError as error: print(error.code, error)\n"
        "print(list(Path(sys.argv[1]).iterdir()))\n"
    )
    command = [*mount, sys.executable, "-c", program, str(full), str(tmp_path / "local")]
    told, left = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    assert told.startswith("destination_failed")
    assert "is full" in told
    assert left == "[]"
