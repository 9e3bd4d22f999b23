"""Trying a destination: what each step finds, and that nothing is left behind."""

from __future__ import annotations

import os
import re
import socket
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import pytest

from delivering import NOW, TOKEN, answering, at, secrets_of
from gcs import account
from outhaul.container import Destinations, Step
from outhaul.errors import Invalid
from outhaul.wire import DOWNLOAD, Destination

if TYPE_CHECKING:
    from azurite import Azurite
    from delivering import Answer, Asked
    from s3 import S3

NAMES = ["allowed", "reach", "authorised", "valid_long_enough"]
HOUR = 3600.0


def tried(allowed: Destinations, destination: Destination, needed_s: float = HOUR) -> list[bool | None]:
    return [step.ok for step in steps(allowed, destination, needed_s)]


def steps(allowed: Destinations, destination: Destination, needed_s: float = HOUR) -> list[Step]:
    found = allowed.probe(destination, needed_s)
    assert [step.name for step in found] == NAMES
    assert all(step.detail for step in found)
    assert all(step.cure for step in found if step.ok is False)
    told = repr(found)
    assert [secret for secret in secrets_of(destination) if secret in told] == []
    return found


def test_a_container_that_takes_files(azurite: Azurite) -> None:
    url = azurite.container("tried", "w", expires_in_s=7200)
    assert tried(Destinations(azurite.url), at(url)) == [True, True, True, True]
    assert azurite.blobs("tried") == {}
    # Nor does it touch what is there.
    Destinations(azurite.url).open(at(url), timeout_s=5).put_bytes(".outhaul-check", b"mine", "text/plain")
    assert tried(Destinations(azurite.url), at(url)) == [True, True, True, True]
    assert azurite.blobs("tried") == {".outhaul-check": b"mine"}


def test_a_token_given_beside_the_url(azurite: Azurite) -> None:
    url, _, token = azurite.container("beside", "w").partition("?")
    for spelled in (token, f"?{token}", f" ?{token}\n"):
        beside = Destination(url=url, sas_token=spelled)
        assert tried(Destinations(azurite.url), beside, 60)[:3] == [True, True, True]
    cut = Destination(url=url, sas_token=token.replace("sig=", "sig=AAAA"))
    assert tried(Destinations(azurite.url), cut, 60) == [True, True, False, None]


def test_a_token_that_ends_too_soon(azurite: Azurite) -> None:
    url = azurite.container("soon", "w", expires_in_s=1800)
    last = steps(Destinations(azurite.url), at(url), needed_s=2 * HOUR)[-1]
    assert last.ok is False
    assert re.search(r"until 20\d\d-\d\d-\d\dT\d\d:\d\d:\d\dZ, 2 hours too short", last.detail)
    assert "outlives" in last.cure


@pytest.mark.parametrize(
    ("name", "permissions", "expires_in_s", "word"),
    [
        ("tried-denied", "rl", 3600, "writing"),
        ("tried-denied", "w", -60, "403"),
        ("tried-denied", "w", -900, "expired"),
    ],
)
def test_a_token_that_is_refused(
    azurite: Azurite, name: str, permissions: str, expires_in_s: int, word: str
) -> None:
    url = azurite.container(name, permissions, expires_in_s)
    found = steps(Destinations(azurite.url), at(url))
    assert [step.ok for step in found] == [True, True, False, None]
    assert word in found[2].detail
    assert azurite.blobs(name) == {}


def test_a_container_that_is_not_there(azurite: Azurite) -> None:
    found = steps(Destinations(azurite.url), at(azurite.address("never-made-either")))
    assert [step.ok for step in found] == [True, True, False, None]
    assert "no such container" in found[2].detail
    assert "Create the container" in found[2].cure


def test_a_bucket_that_takes_files(s3: S3) -> None:
    made = s3.bucket("tried")
    assert tried(Destinations(s3.url), made) == [True, True, True, True]
    assert s3.objects("tried") == {}
    assert s3.unfinished("tried") == []


def test_a_bucket_in_which_nothing_can_be_given_up(s3: S3) -> None:
    made = s3.bucket("kept", ("s3:PutObject",))
    assert tried(Destinations(s3.url), made) == [True, True, True, True]
    assert s3.objects("kept") == {}


def test_temporary_keys_do_not_say_when_they_end(s3: S3) -> None:
    s3.bucket("tried-temporary")
    found = steps(Destinations(s3.url), s3.temporary("tried-temporary"))
    assert [step.ok for step in found] == [True, True, True, None]
    assert "Nothing says" in found[3].detail


def test_keys_that_are_refused(s3: S3) -> None:
    good = s3.bucket("tried-refused")
    wrong = msgspec.structs.replace(good, secret_access_key="notthesecretofthiskey")
    reader = s3.bucket("tried-refused", ("s3:GetObject",))
    missing = s3.destination("tried-never-made", **s3.keys(("*",), "*"))
    for destination, word in (
        (wrong, "SignatureDoesNotMatch"),
        (reader, "AccessDenied"),
        (missing, "NoSuchBucket"),
    ):
        found = steps(Destinations(s3.url), destination)
        assert [step.ok for step in found] == [True, True, False, None]
        assert word in found[2].detail
    assert s3.objects("tried-refused") == {}


def test_a_part_that_is_refused_after_the_upload_was_begun() -> None:
    begun = b"<InitiateMultipartUploadResult><UploadId>1</UploadId></InitiateMultipartUploadResult>"

    def answer(request: Asked) -> Answer:
        return (
            (403, {}, b"<Error><Code>AccessDenied</Code></Error>")
            if request.command == "PUT"
            else (200, {}, begun)
        )

    with answering(answer) as server:
        here = Destination(url="gs://exports", endpoint=server.origin, service_account=account())
        assert tried(Destinations(server.origin), here) == [True, True, False, None]
    assert server.seen[-1].command == "DELETE"


def test_a_service_that_is_busy_says_nothing_about_the_keys() -> None:
    with answering(lambda _request: (503, {}, b"<Error><Code>SlowDown</Code></Error>")) as server:
        here = Destination(url="gs://exports", endpoint=server.origin, service_account=account())
        found = steps(Destinations(server.origin), here)
    assert [step.ok for step in found] == [True, True, None, True]
    assert "cannot take files now" in found[2].detail


def test_a_place_that_is_not_allowed_is_not_asked() -> None:
    with answering(lambda _request: (200, {}, b"")) as server:
        for here in (
            at(f"{server.origin}/acct/exports?{TOKEN}"),
            Destination(url="gs://exports", endpoint=server.origin, service_account=account()),
            at("file:///srv/exports/"),
        ):
            found = steps(Destinations(), here)
            assert [step.ok for step in found] == [False, None, None, None]
            assert "OUTHAUL_DESTINATIONS" in found[0].cure
    assert server.seen == []


def test_what_is_no_destination_is_invalid() -> None:
    for here in (at("exports"), at("s3://exports"), at("https://files.example.com/?x=1")):
        with pytest.raises(Invalid):
            Destinations(resolve=lambda _host, _port: ["93.184.215.14"]).probe(here, HOUR)


def test_a_host_that_is_not_there() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        origin = f"http://127.0.0.1:{free.getsockname()[1]}"
        found = steps(Destinations(origin, now=lambda: NOW), at(f"{origin}/acct/exports?{TOKEN}"))
    assert [step.ok for step in found] == [True, False, None, None]
    assert "cannot be reached" in found[1].detail


def test_a_host_that_never_answers_is_given_up_in_time() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        origin = f"http://127.0.0.1:{silent.getsockname()[1]}"
        began = time.monotonic()
        found = steps(Destinations(origin, now=lambda: NOW), at(f"{origin}/acct/exports?{TOKEN}"))
    assert time.monotonic() - began < 15
    assert [step.ok for step in found] == [True, False, None, None]
    assert "in time" in found[1].detail


def test_a_name_server_that_never_answers_is_given_up_in_time() -> None:
    def resolve(_host: str, _port: int) -> list[str]:
        time.sleep(30)
        return []

    began = time.monotonic()
    found = steps(Destinations(resolve=resolve), at(f"https://files.example.com/exports?{TOKEN}"))
    assert time.monotonic() - began < 15
    assert [step.ok for step in found] == [False, None, None, None]
    assert "no answer within" in found[0].detail


def test_folders(tmp_path: Path) -> None:
    allowed = Destinations(f"file://{tmp_path}/out/", downloads=tmp_path / "downloads")
    assert tried(allowed, at(f"file://{tmp_path}/out/a/b")) == [True, True, True, True]
    assert tried(allowed, at(DOWNLOAD)) == [True, True, True, True]
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "file").touch()
    assert tried(allowed, at(f"file://{tmp_path}/out/file/a")) == [True, False, None, None]
    assert [path.name for path in tmp_path.rglob("*")] == ["out", "file"]


@pytest.mark.skipif(not Path("/sys/kernel").is_dir(), reason="needs a folder that even root may not write to")
def test_a_folder_that_may_not_be_written_to() -> None:
    found = steps(Destinations("file:///sys/kernel/"), at("file:///sys/kernel/"))
    assert [step.ok for step in found] == [True, True, False, None]
    assert "may not be written to" in found[2].detail


def test_a_token_says_how_much_too_short_it_is() -> None:
    end = datetime(2030, 1, 2, tzinfo=UTC).timestamp()
    with answering(lambda _request: (201, {"ETag": '"x"'}, b"")) as server:
        for short, word in ((30, "30 s"), (150, "2 minutes"), (3600, "1 hour"), (3 * 86400, "3 days")):
            here = at(f"{server.origin}/acct/exports?{TOKEN}")
            found = steps(Destinations(server.origin, now=lambda: NOW), here, needed_s=end - NOW + short)
            assert found[3].ok is False
            assert f"{word} too short" in found[3].detail
        policy = at(f"{server.origin}/acct/exports?sv=2021-08-06&sr=c&si=policy&sig={os.urandom(8).hex()}")
        assert tried(Destinations(server.origin), policy) == [True, True, True, None]
