"""Deliveries to Google Cloud Storage: what is sent, that it arrives whole, and what is said when it does not."""

from __future__ import annotations

import json
import os
import time
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from delivering import MIB, answering, destinations, failing_quietly
from gcs import Gcs, account, read_bearer
from outhaul.container import Destinations
from outhaul.container.objects import REFRESH_S
from outhaul.errors import (
    DestinationDenied,
    DestinationError,
    DestinationMissing,
    DestinationRefused,
    DestinationUnreachable,
    Invalid,
    OuthaulError,
)
from outhaul.wire import Destination

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from delivering import Answer, Asked


@pytest.fixture(scope="module")
def gcs() -> Iterator[Gcs]:
    server = Gcs()
    try:
        yield server
    finally:
        server.close()


def bucket(url: str = "gs://exports/2030", **members: Any) -> Destination:
    return Destination(url=url, **{"service_account": account(), **members})


# --- what may be written to ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    "destination",
    [
        bucket(),
        bucket("gs://my_bucket.example.com/a/"),
        bucket(endpoint="https://files.example.com"),
        bucket(service_account={k: account()[k] for k in ("client_email", "private_key_id", "private_key")}),
    ],
)
def test_buckets_at_public_addresses_are_allowed(destination: Destination) -> None:
    destinations().check(destination)
    destinations().open(destination, timeout_s=1)


@pytest.mark.parametrize(
    ("destination", "member"),
    [
        (Destination(url="gs://exports"), "serviceAccount is missing"),
        (bucket(service_account={}), "serviceAccount has no client_email"),
        (bucket(service_account=account(private_key=None)), "serviceAccount has no private_key"),
        (bucket(service_account=account(private_key_id=7)), "serviceAccount has no private_key_id"),
        (bucket(service_account=account(private_key="/etc/passwd")), "serviceAccount.private_key is not"),
        (bucket(region="eu-west-1"), "region does not go with a gs:// URL"),
        (bucket(access_key_id="AKIAIOSFODNN7EXAMPLE"), "accessKeyId does not go with a gs:// URL"),
        (bucket(endpoint="file:///srv"), "endpoint is not"),
    ],
)
def test_a_member_that_is_wrong_is_named(destination: Destination, member: str) -> None:
    with failing_quietly(Invalid, msgspec.structs.replace(destination, service_account=None)) as caught:
        destinations().check(destination)
    assert f"destination.{member}" in caught.value.message


def test_a_key_of_another_kind_is_invalid_and_not_shown() -> None:
    for key in (account()["private_key"].replace("A", "B"), account()["private_key"][:200], "é"):
        with failing_quietly(Invalid, bucket(service_account=account(private_key=key))):
            destinations().check(bucket(service_account=account(private_key=key)))


@pytest.mark.parametrize("url", ["gs://", "gs://Exports", "gs://exports?x=1", "gs://exports/../other"])
def test_what_is_no_bucket_is_invalid(url: str) -> None:
    with failing_quietly(Invalid, bucket(url)):
        destinations().check(bucket(url))


@pytest.mark.parametrize(
    "endpoint", ["http://files.example.com", "https://10.0.0.1", "https://inner.example.com"]
)
def test_an_endpoint_in_a_private_network_is_refused(endpoint: str) -> None:
    with failing_quietly(DestinationRefused, bucket(endpoint=endpoint)):
        destinations().check(bucket(endpoint=endpoint))
    destinations(endpoint).open(bucket(endpoint=endpoint), timeout_s=1)


def test_googles_endpoint_is_used_unless_another_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    with answering(lambda _request: (502, {}, b"")) as server:
        monkeypatch.setenv("https_proxy", server.origin)
        with failing_quietly(DestinationUnreachable, bucket()):
            Destinations().open(bucket(), timeout_s=5).put_bytes("a", b"x", "text/plain")
    assert {request.path for request in server.seen} == {"storage.googleapis.com:443"}


# --- deliveries ---------------------------------------------------------------------------------------


def test_files_arrive_whole(gcs: Gcs, tmp_path: Path) -> None:
    file = tmp_path / "local"
    content = os.urandom(MIB) * 21 + b"the end"
    file.write_bytes(content)
    told: list[int] = []
    made = msgspec.structs.replace(gcs.made("large"), url="gs://large/a%20b/ü%25+%23")
    opened = Destinations(gcs.url).open(made, timeout_s=30)
    opened.put_file("large.json", file, "application/json", told.append)
    opened.put_bytes("small.csv", b"a,b\r\n", "text/csv; charset=utf-8")
    assert gcs.objects("large") == {"a b/ü%+#/large.json": content, "a b/ü%+#/small.csv": b"a,b\r\n"}
    heads = [
        gcs.admin.head_object(Bucket="large", Key=f"a b/ü%+#/{name}") for name in ("large.json", "small.csv")
    ]
    assert [head["ContentType"] for head in heads] == ["application/json", "text/csv; charset=utf-8"]
    assert heads[0]["ETag"].endswith('-3"')
    assert told == [0, 8 * MIB, 16 * MIB, len(content)]


def test_a_delivery_that_is_stopped_leaves_nothing(gcs: Gcs, tmp_path: Path) -> None:
    file = tmp_path / "local"
    file.write_bytes(bytes(30 * MIB))

    def stop(sent: int) -> None:
        if sent:
            raise KeyError("cancelled")

    opened = Destinations(gcs.url).open(gcs.made("stopped"), timeout_s=10)
    with pytest.raises(KeyError, match="cancelled"):
        opened.put_file("a.json", file, "application/json", stop)
    assert gcs.objects("stopped") == {}
    assert gcs.unfinished("stopped") == []


def test_requests_carry_a_token_signed_by_the_service_account() -> None:
    with (
        answering(lambda _request: (200, {"ETag": '"x"'}, b"")) as server,
        answering(lambda _request: (200, {}, b"{}")) as elsewhere,
    ):
        # Whoever gives the account does not get to say where its token is sent.
        given = account(token_uri=elsewhere.origin, gcs_base_url=elsewhere.origin, auth_uri=elsewhere.origin)
        here = bucket(endpoint=server.origin, service_account=given)
        Destinations(server.origin).open(here, timeout_s=5).put_bytes("a", b"x", "text/plain")
    (request,) = server.seen
    head, claims = read_bearer(request.headers["authorization"])
    assert head == {"alg": "RS256", "typ": "JWT", "kid": given["private_key_id"]}
    assert claims["iss"] == claims["sub"] == given["client_email"]
    assert claims["scope"] == "https://www.googleapis.com/auth/devstorage.read_write"
    assert claims["exp"] - claims["iat"] == 3600
    assert abs(claims["iat"] - time.time()) < 60
    assert elsewhere.seen == []


def test_an_account_that_is_replaced_while_a_file_is_on_its_way(gcs: Gcs, tmp_path: Path) -> None:
    file = tmp_path / "local"
    file.write_bytes(bytes(17 * MIB))
    began = b"<InitiateMultipartUploadResult><UploadId>1</UploadId></InitiateMultipartUploadResult>"

    def answer(request: Asked) -> Answer:
        return 200, {"ETag": '"x"'}, began if request.command == "POST" else b""

    with answering(answer) as server:
        here = bucket(endpoint=server.origin)
        after = bucket(endpoint=server.origin, service_account=account(client_email="new@project"))
        opened = Destinations(server.origin).open(here, timeout_s=10, refresh=lambda: after)
        with failing_quietly(DestinationError, here):  # what was begun is also the answer to the end
            opened.put_file(
                "a", file, "text/plain", lambda sent: time.sleep(REFRESH_S if sent == 16 * MIB else 0)
            )
    issuers = [read_bearer(request.headers["authorization"])[1]["iss"] for request in server.seen]
    assert issuers[0] == account()["client_email"]
    assert issuers[-1] == "new@project"


def test_the_environment_of_other_tools_does_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    with (
        answering(lambda _request: (200, {"ETag": '"x"'}, b"")) as server,
        answering(lambda _request: (200, {}, b"{}")) as elsewhere,
    ):
        for name, value in {
            "GOOGLE_SERVICE_ACCOUNT_KEY": json.dumps(account(client_email="other@project")),
            "GOOGLE_APPLICATION_CREDENTIALS": "/nowhere",
            "GOOGLE_BEARER_TOKEN": "other",
            "GOOGLE_BASE_URL": elsewhere.origin,
            "GOOGLE_BUCKET": "other",
            "GOOGLE_SKIP_SIGNATURE": "true",
            "GCE_METADATA_HOST": elsewhere.origin,
        }.items():
            monkeypatch.setenv(name, value)
        here = bucket(endpoint=server.origin)
        Destinations(server.origin).open(here, timeout_s=5).put_bytes("a", b"x", "text/plain")
    assert server.seen[0].path == "/exports/2030%2Fa"
    assert read_bearer(server.seen[0].headers["authorization"])[1]["iss"] == account()["client_email"]
    assert elsewhere.seen == []


def test_an_environment_that_cannot_be_read_is_said_to_be_the_servers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("GOOGLE_SERVICE_ACCOUNT", "/nowhere")
    with failing_quietly(DestinationError, bucket()) as caught:
        Destinations().open(bucket(), timeout_s=5).put_bytes("a", b"x", "text/plain")
    assert "GOOGLE_" in caught.value.hint
    assert "/nowhere" not in str(caught.value)


# --- what is said when a bucket does not take a file --------------------------------------------------


@pytest.mark.parametrize("size", [10, 20 * MIB])
def test_a_missing_bucket(gcs: Gcs, tmp_path: Path, size: int) -> None:
    file = tmp_path / "local"
    file.write_bytes(bytes(size))
    missing = bucket("gs://never-made", endpoint=gcs.url)
    with failing_quietly(DestinationMissing, missing) as caught:
        Destinations(gcs.url).open(missing, timeout_s=10).put_file("a", file, "text/plain")
    assert "NoSuchBucket" in caught.value.message


@pytest.mark.parametrize(
    ("status", "code", "expected", "word"),
    [
        (200, "", DestinationError, "not what a bucket answers"),
        (401, "AuthenticationRequired", DestinationDenied, "key was deleted"),
        (403, "AccessDenied", DestinationDenied, "Storage Object User"),
        (404, "NoSuchBucket", DestinationMissing, "Create the bucket"),
        (429, "SlowDown", DestinationUnreachable, "later"),
        (501, "", DestinationError, "XML API"),
        (503, "ServiceUnavailable", DestinationUnreachable, "later"),
    ],
)
def test_answers_become_our_errors(status: int, code: str, expected: type[OuthaulError], word: str) -> None:
    def answer(request: Asked) -> Answer:
        heard = f"{request.headers} {account()['private_key']}"
        return status, {}, f"<Error><Code>{code}</Code><Details>{heard}</Details></Error>".encode()

    with answering(answer) as server:
        here = bucket(endpoint=server.origin)
        with failing_quietly(expected, here) as caught:
            Destinations(server.origin).open(here, timeout_s=5).put_bytes("a", b"x", "text/plain")
        sent = server.seen[0].headers["authorization"].split(" ")[1]
    assert word in str(caught.value)
    assert sent not in str(caught.value)
