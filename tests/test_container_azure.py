"""Deliveries to blob containers: that they arrive whole, and what is said when they do not."""

from __future__ import annotations

import os
import re
import socket
import ssl
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, parse_qsl, quote, urlsplit

import pytest
import trustme

from delivering import (
    MIB,
    NOW,
    SIGNATURE,
    TOKEN,
    Answering,
    answering,
    at,
    destinations,
    failing_quietly,
)
from outhaul.container import Destinations
from outhaul.container.azure import MAX_BLOCKS
from outhaul.container.objects import PART_BYTES, REFRESH_S, part_bytes
from outhaul.errors import (
    DestinationDenied,
    DestinationError,
    DestinationMissing,
    DestinationUnreachable,
    Invalid,
    OuthaulError,
)
from outhaul.wire import Destination

if TYPE_CHECKING:
    from pathlib import Path

    from azurite import Azurite
    from delivering import Answer, Asked

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
    destinations().check(at(url))
    with failing_quietly(DestinationDenied, url) as caught:
        destinations().open(at(url), timeout_s=1)
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
    destinations().open(at(f"https://acct.blob.core.windows.net/exports?{token}"), timeout_s=1)


# --- blob containers ----------------------------------------------------------------------------------


def emulated(azurite: Azurite) -> Destinations:
    return Destinations(azurite.url)


def test_write_and_list_permission_is_enough(azurite: Azurite, tmp_path: Path) -> None:
    file = tmp_path / "local"
    file.write_bytes(b"[\n]")
    url = azurite.container("small", "wl")
    opened = emulated(azurite).open(at(url), timeout_s=10)
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
    opened = emulated(azurite).open(at(azurite.container("large", "wl")), timeout_s=30)
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
        emulated(azurite).open(at(url), timeout_s=10).put_file("a.json", file, "application/json")
        assert azurite.blobs("again") == {"a.json": bytes(size)}


def test_a_token_that_is_replaced_while_a_file_is_on_its_way(azurite: Azurite, tmp_path: Path) -> None:
    file = tmp_path / "local"
    file.write_bytes(bytes(41 * MIB))
    lives_s = REFRESH_S + 2
    url, _, token = azurite.container("renewed", "w", expires_in_s=lives_s).partition("?")
    renewed = Destination(url=url, sas_token=azurite.address("renewed", "w").partition("?")[2])

    def wait(sent: int) -> None:
        if sent == 32 * MIB:
            time.sleep(lives_s + 0.5)

    opened = emulated(azurite).open(at(f"{url}?{token}"), timeout_s=10, refresh=lambda: renewed)
    opened.put_file("a.json", file, "application/json", wait)
    assert len(azurite.blobs("renewed")["a.json"]) == 41 * MIB
    with failing_quietly(DestinationDenied, f"{url}?{token}"):
        emulated(azurite).open(at(f"{url}?{token}"), timeout_s=10).put_bytes("b", b"x", "text/plain")


def test_a_delivery_that_is_stopped_leaves_nothing(azurite: Azurite, tmp_path: Path) -> None:
    file = tmp_path / "local"
    file.write_bytes(bytes(30 * MIB))

    def stop(sent: int) -> None:
        if sent:
            raise KeyError("cancelled")

    opened = emulated(azurite).open(at(azurite.container("stopped")), timeout_s=10)
    with pytest.raises(KeyError, match="cancelled"):
        opened.put_file("a.json", file, "application/json", stop)
    assert azurite.blobs("stopped") == {}


def test_folders_of_a_container_and_awkward_names(azurite: Azurite) -> None:
    base, _, token = azurite.container("prefixed").partition("?")
    url = f"{base}/a%20b//%C3%BC%2525+%23/?{token}"
    emulated(azurite).open(at(url), timeout_s=10).put_bytes("sub/50% (1)+.json", b"x", "application/json")
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
        emulated(azurite).open(at(spelled), timeout_s=10).put_bytes("a.json", b"x", "application/json")


@pytest.mark.parametrize("name", ["", ".", "..", "../a", "a/../b", "/a", "a/", "a\\b", "a\nb"])
def test_a_name_is_a_name(azurite: Azurite, tmp_path: Path, name: str) -> None:
    opened = emulated(azurite).open(at(azurite.container("names")), timeout_s=10)
    folder = Destinations(f"file://{tmp_path}").open(at(f"file://{tmp_path}/x"), timeout_s=10)
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
    emulated(azurite).open(at(azurite.container("unmoved")), timeout_s=10).put_bytes("a", b"x", "text/plain")
    assert azurite.blobs("unmoved") == {"a": b"x"}


def test_blocks_are_large_enough_for_files_of_any_size() -> None:
    assert part_bytes(0, MAX_BLOCKS) == part_bytes(300 * 1024 * MIB, MAX_BLOCKS) == PART_BYTES
    for size in (PART_BYTES * MAX_BLOCKS, PART_BYTES * MAX_BLOCKS + 1, 5 * 1024**4, 100 * 1024**4):
        assert size <= part_bytes(size, MAX_BLOCKS) * MAX_BLOCKS <= size * 1.2
        assert part_bytes(size, MAX_BLOCKS) % MIB == 0


def test_memory_stays_bounded(azurite: Azurite, tmp_path: Path) -> None:
    file = tmp_path / "local"
    with file.open("wb") as sparse:
        sparse.truncate(300 * MIB)
    program = (
        "import resource, sys; from pathlib import Path; from outhaul.container import Destinations\n"
        "from outhaul.wire import Destination\n"
        "peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024\n"
        "opened = Destinations(sys.argv[1]).open(Destination(url=sys.argv[2]), timeout_s=60)\n"
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
            emulated(azurite).open(at(url), timeout_s=10).put_file("a", file, "text/plain")
        assert "403 AuthorizationFailure" in caught.value.message
        assert word in caught.value.hint
    assert azurite.blobs("refusing") == {}


def test_a_token_that_cannot_write(azurite: Azurite) -> None:
    url = azurite.container("read-only", "rl")
    with failing_quietly(DestinationDenied, url) as caught:
        emulated(azurite).open(at(url), timeout_s=10)
    assert "writing" in caught.value.message
    # Create permission says that it may write, but not over what is there.
    url = azurite.container("read-only", "cl")
    opened = emulated(azurite).open(at(url), timeout_s=10)
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
        emulated(azurite).open(at(url), timeout_s=10).put_file("a", file, "text/plain")
    assert "ContainerNotFound" in caught.value.message


def test_a_missing_local_file_is_not_a_missing_container(azurite: Azurite, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    allowed = Destinations(f"{azurite.url},file://{tmp_path}/folder")
    for url in (azurite.container("local"), f"file://{tmp_path}/folder"):
        with pytest.raises(FileNotFoundError):
            allowed.open(at(url), timeout_s=10).put_file("a", tmp_path / "gone", "text/plain")


def test_a_host_that_is_not_there() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        origin = f"http://127.0.0.1:{free.getsockname()[1]}"
        url = f"{origin}/acct/exports?{TOKEN}"
        with failing_quietly(DestinationUnreachable, url) as caught:
            Destinations(origin, now=lambda: NOW).open(at(url), timeout_s=5).put_bytes(
                "a", b"x", "text/plain"
            )
    assert "cannot be reached" in caught.value.message


def test_a_host_that_never_answers(tmp_path: Path) -> None:
    file = tmp_path / "local"
    file.write_bytes(bytes(20 * MIB))
    with socket.create_server(("127.0.0.1", 0)) as silent:
        origin = f"http://127.0.0.1:{silent.getsockname()[1]}"
        url = f"{origin}/acct/exports?{TOKEN}"
        with failing_quietly(DestinationUnreachable, url) as caught:
            Destinations(origin, now=lambda: NOW).open(at(url), timeout_s=1).put_file("a", file, "text/plain")
    assert "did not answer in time" in caught.value.message


def told_by_path(request: Asked) -> Answer:
    """Answer with the status that the path's first name ends in, and repeat the token wherever that is possible."""
    token = parse_qs(urlsplit(request.path).query)["sig"][0]
    code = re.sub(r"[^A-Za-z]", "", token) if "echo" in request.path else "SomeCode"
    body = f"<Error><Code>{code}</Code><Message>{request.path} {token}</Message></Error>"
    headers = {"Location": "/elsewhere-201/exports/a?sig=x", "x-ms-error-code": code}
    return int(urlsplit(request.path).path.split("/")[1].split("-")[-1]), headers, body.encode()


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
def test_answers_become_our_errors(tmp_path: Path, status: int, expected: type[OuthaulError]) -> None:
    file = tmp_path / "local"
    file.write_bytes(bytes(9 * MIB))
    with answering(told_by_path) as server:
        allowed = Destinations(server.origin, now=lambda: NOW)
        for account in (f"x-{status}", f"echo-{status}"):
            token = f"{TOKEN.partition('sig=')[0]}sig=abcdefABCDEFabcdefABCDEF"
            url = f"{server.origin}/{account}/exports?{token}"
            with failing_quietly(expected, url) as caught:
                allowed.open(at(url), timeout_s=10).put_bytes("a", b"x", "text/plain")
            if status != 201:
                assert str(status) in caught.value.message
                assert ("SomeCode" in caught.value.message) == (account.startswith("x-") and status > 399)
                with failing_quietly(expected, url):
                    allowed.open(at(url), timeout_s=10).put_file("a", file, "text/plain")
    assert server.seen
    followed = [request.path for request in server.seen if request.path.startswith("/elsewhere")]
    assert not followed, "a redirect was followed"


@pytest.mark.parametrize(
    ("host", "path", "asked"),
    [
        ("acct.blob.core.windows.net", "exports", "exports/a"),
        ("acct.blob.core.windows.net:10000", "exports/b/c", "exports/b/c/a"),
        ("acct.z17.blob.storage.azure.net", "exports", "exports/a"),
        ("files.example.com", "exports", "exports/a"),
        ("azurite", "acct/exports", "acct/exports/a"),
        ("storage.example.com:10000", "acct/exports/b", "acct/exports/b/a"),
    ],
)
def test_the_account_is_in_the_host_or_first_in_the_path(
    monkeypatch: pytest.MonkeyPatch, host: str, path: str, asked: str
) -> None:
    with answering(lambda _request: (201, {}, b"")) as server:
        # As a proxy, the server sees requests for hosts that it is not.
        monkeypatch.setenv("http_proxy", server.origin)
        url = f"http://{host}/{path}?restype=container&comp=list&{TOKEN}"  # as copied from a listing
        with failing_quietly(DestinationError, url):
            Destinations(f"http://{host}/", now=lambda: NOW).open(at(url), timeout_s=5).put_bytes(
                "a", b"x", "text/plain"
            )
    request, query = server.seen[0].path.split("?")
    assert request == f"http://{host}/{asked}"
    assert dict(parse_qsl(query)) == dict(parse_qsl(TOKEN))


def test_a_certificate_that_nobody_vouches_for() -> None:
    with Answering(lambda _request: (201, {}, b"")) as server:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        trustme.CA().issue_cert("127.0.0.1").configure_cert(context)
        server.socket = context.wrap_socket(server.socket, server_side=True)
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        origin = f"https://127.0.0.1:{server.server_port}"
        url = f"{origin}/x/exports?{TOKEN}"
        with failing_quietly(DestinationError, url) as caught:
            Destinations(origin, now=lambda: NOW).open(at(url), timeout_s=5).put_bytes(
                "a", b"x", "text/plain"
            )
        server.shutdown()
    assert "certificate" in caught.value.message


def test_a_container_does_not_show_its_token() -> None:
    opened = destinations().open(at(f"https://acct.blob.core.windows.net/exports?{TOKEN}"), timeout_s=1)
    shown = "".join(map(repr, (opened, *vars(opened).values())))
    assert SIGNATURE not in shown
    assert quote(SIGNATURE, safe="") not in shown
