"""Files that imports read: what is allowed, that the bytes come from any place on, and what is said when they do not."""

from __future__ import annotations

import os
import urllib.request
from typing import TYPE_CHECKING

import msgspec
import pytest

from delivering import MIB, NOW, SIGNATURE, TOKEN, answering, everything_told, named
from gcs import Gcs
from outhaul.container import Sources, describe_source
from outhaul.errors import (
    Invalid,
    OuthaulError,
    SourceChanged,
    SourceDenied,
    SourceError,
    SourceMissing,
    SourceRefused,
    SourceUnreachable,
)
from outhaul.wire import Destination, Source

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from azurite import Azurite
    from delivering import Answer, Asked
    from s3 import S3

READ = TOKEN.replace("sp=wl", "sp=r")
CONTENT = os.urandom(17 * MIB + 5)


def sources(allowed: str = "") -> Sources:
    return Sources(allowed, resolve=named, now=lambda: NOW)


def at(url: str) -> Source:
    return Source(url=url)


def of(destination: Destination, key: str) -> Source:
    fields = msgspec.structs.asdict(destination)
    return Source(**fields | {"url": f"{destination.url}/{key}"})


def whole(found: Sources, source: Source, offset: int = 0) -> bytes:
    return b"".join(found.open(source, timeout_s=10).chunks(offset))


# --- what is allowed


@pytest.mark.parametrize(
    "url",
    [
        "http://acct.blob.core.windows.net/c/f?sig=x",
        "https://inner.example.com/c/f?sig=x",
        "https://half.example.com/c/f?sig=x",
        "https://mapped.example.com/c/f?sig=x",
        "https://metadata.google.internal/c/f?sig=x",
        "https://127.0.0.1/a/c/f?sig=x",
        "https://[::1]/a/c/f?sig=x",
        "http://127.0.0.1:10000/a/c/f?sig=x",
        "https://localhost/a/c/f?sig=x",
        "file:///etc/passwd",
    ],
)
def test_addresses_that_are_refused(url: str) -> None:
    for call in (sources("file:///srv/").check, lambda source: sources().open(source, timeout_s=1)):
        with pytest.raises(SourceRefused) as caught:
            call(at(url))
        assert "OUTHAUL_DESTINATIONS" in caught.value.hint
        assert "sig=" not in everything_told(caught.value)


@pytest.mark.parametrize(
    "url",
    [
        f"https://acct.blob.core.windows.net/container?{READ}",
        "s3://bucket",
        "gs://bucket/",
        "file:///",
        "download:",
        "ftp://files.example.com/f",
        "nonsense",
    ],
)
def test_what_names_no_file(url: str) -> None:
    members = {}
    if url.startswith("s3"):
        members = {"access_key_id": "a", "secret_access_key": "b", "region": "eu-west-1"}
    with pytest.raises(Invalid) as caught:
        sources("file:///").check(Source(url=url, **members))
    assert "destination" not in str(caught.value).lower().replace("outhaul_destinations", "")
    assert SIGNATURE not in everything_told(caught.value)


def test_a_source_is_shown_without_its_token() -> None:
    shown = describe_source(at(f"https://acct.blob.core.windows.net/container/a/tags.csv?{READ}"))
    assert shown == "https://acct.blob.core.windows.net/container/a/tags.csv"
    assert describe_source(at("file:///srv/tags.csv")) == "file:///srv/tags.csv"


@pytest.mark.parametrize(
    ("token", "reason"),
    [
        ("sv=2021-08-06&sr=c&sp=r", "no signature"),
        (TOKEN, "does not allow reading"),
        (READ.replace("2030-01-02", "2029-01-02"), "expired at 2029-01-02"),
        (READ.replace("sr=c", "ss=qt&srt=sco"), "not for blobs"),
    ],
)
def test_a_token_that_says_itself_that_it_cannot_read(token: str, reason: str) -> None:
    source = at(f"https://acct.blob.core.windows.net/container/tags.csv?{token}")
    sources().check(source)
    with pytest.raises(SourceDenied) as caught:
        sources().open(source, timeout_s=1)
    assert reason in caught.value.message
    assert SIGNATURE not in everything_told(caught.value)


def test_a_name_that_does_not_resolve_may_later() -> None:
    with pytest.raises(SourceUnreachable):
        sources().open(at(f"https://nobody.blob.core.windows.net/container/f?{READ}"), timeout_s=1)


# --- containers and buckets


@pytest.fixture(scope="module")
def blob(azurite: Azurite) -> str:
    """The name of a container with a blob in it."""
    put(azurite, "sources", "a/tags ü.csv", CONTENT)
    return "sources"


def put(azurite: Azurite, container: str, name: str, content: bytes) -> None:
    base, _, token = azurite.container(container, "rwl").partition("?")
    headers = {"x-ms-blob-type": "BlockBlob", "x-ms-version": "2021-08-06"}
    url = f"{base}/{urllib.request.quote(name)}?{token}"
    urllib.request.urlopen(urllib.request.Request(url, content, headers, method="PUT"), timeout=60).close()


def in_azurite(azurite: Azurite, name: str, permissions: str = "r") -> Source:
    base, _, token = azurite.address("sources", permissions).partition("?")
    return at(f"{base}/{name}?{token}")


@pytest.fixture
def allowed(azurite: Azurite) -> Sources:
    return Sources(f"{azurite.url}/")


@pytest.mark.usefixtures("blob")
def test_a_blob_is_read_from_any_place_on_with_read_permission_alone(
    azurite: Azurite, allowed: Sources
) -> None:
    source = in_azurite(azurite, "a/tags%20%C3%BC.csv")
    reading = allowed.open(source, timeout_s=10)
    assert reading.size == len(CONTENT)
    for offset in (0, 1, 8 * MIB, 16 * MIB + 3, len(CONTENT) - 1, len(CONTENT)):
        assert b"".join(reading.chunks(offset)) == CONTENT[offset:]
    assert allowed.open(source, timeout_s=10).version == reading.version
    assert max(map(len, reading.chunks())) <= 8 * MIB


@pytest.mark.usefixtures("blob")
def test_an_empty_blob_one_that_is_missing_and_one_that_may_not_be_read(
    azurite: Azurite, allowed: Sources
) -> None:
    put(azurite, "sources", "empty", b"")
    assert whole(allowed, in_azurite(azurite, "empty")) == b""
    with pytest.raises(SourceMissing):
        allowed.open(in_azurite(azurite, "nothing"), timeout_s=10)
    hidden = in_azurite(azurite, "empty", "r")
    forged = at(hidden.url.replace("sig=", "sig=AAAA"))
    with pytest.raises(SourceDenied) as caught:
        allowed.open(forged, timeout_s=10)
    assert forged.url.partition("sig=")[2] not in everything_told(caught.value)
    with pytest.raises(SourceDenied, match="does not allow reading"):
        allowed.open(in_azurite(azurite, "empty", "wl"), timeout_s=10)


@pytest.mark.usefixtures("blob")
def test_a_blob_that_is_replaced_while_it_is_read(azurite: Azurite, allowed: Sources) -> None:
    put(azurite, "sources", "changing", CONTENT)
    source = in_azurite(azurite, "changing")
    reading = allowed.open(source, timeout_s=10)
    chunks = reading.chunks()
    assert next(chunks) == CONTENT[: 8 * MIB]
    put(azurite, "sources", "changing", CONTENT[::-1])
    with pytest.raises(SourceChanged):
        next(chunks)
    assert allowed.open(source, timeout_s=10).version != reading.version


def test_an_object_of_s3(s3: S3) -> None:
    bucket = s3.bucket("sources", ("s3:GetObject",))
    s3.admin.put_object(Bucket="sources", Key="a/b.csv", Body=CONTENT)
    found = Sources(f"{s3.url}/")
    assert whole(found, of(bucket, "a/b.csv"), 5) == CONTENT[5:]
    with pytest.raises((SourceMissing, SourceDenied)):
        found.open(of(bucket, "a/nothing"), timeout_s=10)
    with pytest.raises(SourceDenied, match="s3:GetObject"):
        found.open(of(s3.bucket("sources", ("s3:PutObject",)), "a/b.csv"), timeout_s=10)


def test_an_object_of_google() -> None:
    gcs = Gcs()
    try:
        bucket = gcs.made("sources")
        gcs.admin.put_object(Bucket="sources", Key="a/b.csv", Body=CONTENT)
        assert whole(Sources(f"{gcs.url}/"), of(bucket, "a/b.csv"), 7) == CONTENT[7:]
    finally:
        gcs.close()


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (302, SourceError),
        (400, SourceError),
        (401, SourceDenied),
        (403, SourceDenied),
        (404, SourceMissing),
        (412, SourceChanged),
        (416, SourceChanged),
        (429, SourceUnreachable),
        (500, SourceUnreachable),
        (503, SourceUnreachable),
    ],
)
def test_what_a_refusal_means(status: int, kind: type[OuthaulError]) -> None:
    def answer(asked: Asked) -> Answer:
        return status, {}, f"<Error><Code>Something</Code><Message>{asked}</Message></Error>".encode()

    with answering(answer) as server:
        url = f"{server.origin}/account/container/file?{READ}"
        with pytest.raises(kind) as caught:
            sources(f"{server.origin}/").open(at(url), timeout_s=2)
    assert type(caught.value) is kind
    assert SIGNATURE not in everything_told(caught.value)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("kind", ["azure", "s3"])
def test_a_redirect_to_another_host_is_not_followed(status: int, kind: str) -> None:
    def answer(asked: Asked) -> Answer:
        if "inner" in asked.path:
            return 200, {"ETag": '"x"', "Last-Modified": "Mon, 23 Nov 2026 12:00:00 GMT"}, b"inner"
        port = server.origin.rpartition(":")[2]
        return status, {"Location": f"http://localhost:{port}/inner"}, b""

    with answering(answer) as server:
        source = at(f"{server.origin}/account/container/file?{READ}")
        if kind == "s3":
            source = Source(
                url="s3://bucket/file", access_key_id="a", secret_access_key="b", endpoint=server.origin
            )
        with pytest.raises(SourceUnreachable, match="redirect"):
            sources(f"{server.origin}/").open(source, timeout_s=2)
        assert server.seen
        assert not [one for one in server.seen if "inner" in one.path]


def test_links_of_the_server_are_not_told_to_who_may_not_look(tmp_path: Path) -> None:
    (tmp_path / "secret").mkdir()
    (tmp_path / "open").mkdir()
    (tmp_path / "open" / "link").symlink_to(tmp_path / "secret")
    with pytest.raises(SourceRefused) as caught:
        sources(f"{(tmp_path / 'open').as_uri()}/").check(at(f"{(tmp_path / 'open' / 'link').as_uri()}/file"))
    assert "open/link/file" in caught.value.hint
    assert "secret" not in everything_told(caught.value)


def test_the_cure_of_a_source_speaks_of_files() -> None:
    with pytest.raises(Invalid) as caught:
        sources().check(at(f"https://acct.blob.core.windows.net/?{READ}"))
    assert "CONTAINER/FILE?TOKEN" in caught.value.hint


def test_nobody_there() -> None:
    with answering(lambda _: (200, {}, b"")) as server:
        url = f"{server.origin}/account/container/file?{READ}"
        allowed = f"{server.origin}/"
    with pytest.raises(SourceUnreachable):
        sources(allowed).open(at(url), timeout_s=2)


# --- files of the server


@pytest.fixture
def inside(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "tags.csv").write_bytes(CONTENT)
    (tmp_path / "outside.csv").write_bytes(b"secret")
    return folder


def test_a_file_is_read_from_any_place_on(inside: Path) -> None:
    found = Sources(f"file://{inside}/")
    source = at(f"file://{inside}/tags.csv")
    found.check(source)
    assert whole(found, source) == CONTENT
    assert whole(found, source, 16 * MIB) == CONTENT[16 * MIB :]
    assert found.open(source, timeout_s=1).size == len(CONTENT)


def test_no_link_and_no_dots_lead_out_of_what_is_allowed(inside: Path) -> None:
    found = Sources(f"file://{inside}/")
    (inside / "link.csv").symlink_to(inside.parent / "outside.csv")
    for path in ("link.csv", "../outside.csv", "%2e%2e/outside.csv"):
        with pytest.raises(SourceRefused):
            found.open(at(f"file://{inside}/{path}"), timeout_s=1)


def test_only_files_that_are_there_are_read(inside: Path) -> None:
    found = Sources(f"file://{inside}/")
    os.mkfifo(inside / "pipe")
    (inside / "folder").mkdir()
    for path, kind in (("pipe", SourceError), ("folder", SourceError), ("nothing", SourceMissing)):
        with pytest.raises(kind):
            found.open(at(f"file://{inside}/{path}"), timeout_s=1)


def test_a_file_that_changes_while_it_is_read(inside: Path) -> None:
    reading = Sources(f"file://{inside}/").open(at(f"file://{inside}/tags.csv"), timeout_s=1)
    chunks = reading.chunks()
    next(chunks)
    with (inside / "tags.csv").open("ab") as file:
        file.write(b"more")
    with pytest.raises(SourceChanged):
        next(chunks)
    with pytest.raises(SourceChanged):
        next(reading.chunks())
