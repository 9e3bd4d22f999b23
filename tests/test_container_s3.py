"""Deliveries to S3 buckets: that they arrive whole, and what is said when they do not."""

from __future__ import annotations

import hashlib
import os
import time
from typing import TYPE_CHECKING

import msgspec
import pytest

from delivering import MIB, NOW, answering, destinations, failing_quietly, named
from outhaul.container import Destinations
from outhaul.container.objects import PART_BYTES, REFRESH_S, part_bytes
from outhaul.container.s3 import MAX_PARTS
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
    from pathlib import Path

    from delivering import Answer, Asked
    from s3 import S3

KEYS = {
    "access_key_id": "AKIAIOSFODNN7EXAMPLE",
    "secret_access_key": "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
}
BEGUN = b"<InitiateMultipartUploadResult><UploadId>1</UploadId></InitiateMultipartUploadResult>"


def bucket(url: str = "s3://exports/2030", **members: str) -> Destination:
    return Destination(url=url, **{**KEYS, "region": "eu-west-1", **members})


def allowed(s3: S3) -> Destinations:
    return Destinations(s3.url)


# --- what may be written to ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    "destination",
    [
        bucket(),
        bucket("S3://exports"),
        bucket("s3://exports.2026"),
        bucket("s3://2026"),
        bucket("s3://my.bucket-1/a%20b//c/"),
        bucket(session_token="IQoJb3JpZ2luX2Vj=="),
        bucket(region="us-gov-east-1"),
        bucket(region="cn-north-1"),
        bucket(endpoint="https://files.example.com"),
        bucket(endpoint="https://files.example.com:9000/", region="auto"),
        Destination(url="s3://exports", endpoint="https://files.example.com", **KEYS),
    ],
)
def test_buckets_at_public_addresses_are_allowed(destination: Destination) -> None:
    destinations().check(destination)
    destinations().open(destination, timeout_s=1)


@pytest.mark.parametrize(
    ("destination", "member"),
    [
        (Destination(url="s3://exports", region="eu-west-1"), "accessKeyId is missing"),
        (
            Destination(url="s3://exports", region="eu-west-1", access_key_id="AKIAIOSFODNN7EXAMPLE"),
            "secretAccessKey is missing",
        ),
        (bucket(secret_access_key=""), "secretAccessKey is missing"),
        (Destination(url="s3://exports", **KEYS), "region is missing"),
        (bucket(region="eu-west-1.evil.example"), "region is not a region"),
        (bucket(region="eu-west-1/"), "region is not a region"),
        (bucket(region=""), "region is not a region"),
        (bucket(region="a b", endpoint="https://files.example.com"), "region is not"),
        (bucket(access_key_id="AKIA\r\nHost: inner"), "accessKeyId has characters"),
        (bucket(session_token="a b"), "sessionToken has characters"),
        (bucket(endpoint="files.example.com"), "endpoint is not"),
        (bucket(endpoint="ftp://files.example.com"), "endpoint is not"),
        (bucket(endpoint="file:///srv"), "endpoint is not"),
        (bucket(endpoint="https://files.example.com/bucket"), "endpoint is not"),
        (bucket(endpoint="https://files.example.com/?x=1"), "endpoint is not"),
        (bucket(endpoint="https://user:word@files.example.com"), "endpoint is not"),
        (bucket(sas_token="?sig=abc"), "sasToken does not go with an s3:// URL"),
        (msgspec.structs.replace(bucket(), service_account={}), "serviceAccount does not go with"),
    ],
)
def test_a_member_that_is_wrong_is_named(destination: Destination, member: str) -> None:
    with failing_quietly(Invalid, destination) as caught:
        destinations().check(destination)
    assert f"destination.{member}" in caught.value.message
    with failing_quietly(Invalid, destination):
        destinations().open(destination, timeout_s=1)


@pytest.mark.parametrize(
    "url",
    [
        "s3:",
        "s3://",
        "s3:///exports",
        "s3://Exports",
        "s3://ex",
        "s3://a..b",
        "s3://10.0.0.1",
        "s3://exports:9000/a",
        "s3://user@exports/a",
        "s3://exports?x=1",
        "s3://exports/a#b",
        "s3://exports/../other",
        "s3://exports/%2e%2e/other",
        "s3://exports/a%2fb",
        "s3://exports/%ff",
        "s3://exports/a b",
        "s3://exports\\@10.0.0.1/",
    ],
)
def test_what_is_no_bucket_is_invalid(url: str) -> None:
    with failing_quietly(Invalid, bucket(url)):
        destinations().check(bucket(url))


@pytest.mark.parametrize(
    "endpoint",
    [
        "http://files.example.com",
        "https://10.0.0.1",
        "https://2130706433",
        "https://169.254.169.254",
        "https://[::1]:9000",
        "https://localhost",
        "https://inner.example.com",
        "https://half.example.com",
    ],
)
def test_an_endpoint_in_a_private_network_is_refused(endpoint: str) -> None:
    with failing_quietly(DestinationRefused, bucket(endpoint=endpoint)) as caught:
        destinations().check(bucket(endpoint=endpoint))
    assert "OUTHAUL_DESTINATIONS" in caught.value.hint
    with failing_quietly(DestinationRefused, bucket(endpoint=endpoint)):
        destinations().open(bucket(endpoint=endpoint), timeout_s=1)
    destinations(endpoint).open(bucket(endpoint=endpoint), timeout_s=1)


def test_a_prefix_can_allow_one_bucket_of_an_endpoint() -> None:
    one = destinations("http://minio.inner:9000/exports/2030/")
    one.check(bucket("s3://exports/2030/a", endpoint="http://minio.inner:9000"))
    for url in ("s3://exports/2031", "s3://exports", "s3://exports-other/2030"):
        with failing_quietly(DestinationRefused, bucket()):
            one.check(bucket(url, endpoint="http://minio.inner:9000"))


def test_an_endpoint_that_does_not_resolve_is_unreachable_at_delivery() -> None:
    gone = bucket(endpoint="https://unknown.example.com")
    destinations().check(gone)
    with failing_quietly(DestinationUnreachable, gone):
        destinations().open(gone, timeout_s=1)


@pytest.mark.parametrize(
    ("region", "host"),
    [("eu-west-1", "s3.eu-west-1.amazonaws.com"), ("cn-north-1", "s3.cn-north-1.amazonaws.com.cn")],
)
def test_amazons_endpoint_follows_from_the_region(
    monkeypatch: pytest.MonkeyPatch, region: str, host: str
) -> None:
    with answering(lambda _request: (502, {}, b"")) as server:
        monkeypatch.setenv("https_proxy", server.origin)
        opened = Destinations().open(bucket(region=region), timeout_s=5)
        with failing_quietly(DestinationUnreachable, bucket()):
            opened.put_bytes("a", b"x", "text/plain")
    assert {request.path for request in server.seen} == {f"{host}:443"}


# --- deliveries ---------------------------------------------------------------------------------------


def test_put_permission_is_enough(s3: S3, tmp_path: Path) -> None:
    file = tmp_path / "local"
    file.write_bytes(b"[\n]")
    opened = allowed(s3).open(s3.bucket("small", ("s3:PutObject",)), timeout_s=10)
    opened.put_file("Activity_1.json", file, "application/json")
    opened.put_bytes("empty", b"", "text/csv; charset=utf-8")
    assert s3.objects("small") == {"Activity_1.json": b"[\n]", "empty": b""}
    types = [
        s3.admin.head_object(Bucket="small", Key=key)["ContentType"] for key in ("Activity_1.json", "empty")
    ]
    assert types == ["application/json", "text/csv; charset=utf-8"]


def test_a_large_file_goes_in_parts_and_tells_its_progress(s3: S3, tmp_path: Path) -> None:
    file = tmp_path / "local"
    content = os.urandom(MIB) * 21 + b"the end"
    file.write_bytes(content)
    told: list[int] = []
    opened = allowed(s3).open(s3.bucket("large"), timeout_s=30)
    for _ in range(2):
        opened.put_file("large.json", file, "application/json", told.append)
    assert s3.objects("large") == {"large.json": content}
    head = s3.admin.head_object(Bucket="large", Key="large.json")
    assert head["ContentType"] == "application/json"
    assert head["ETag"].endswith('-3"')
    assert told == [0, 8 * MIB, 16 * MIB, len(content)] * 2
    assert s3.unfinished("large") == []


def test_parts_are_large_enough_for_files_of_any_size() -> None:
    assert part_bytes(80 * 1000 * MIB, MAX_PARTS) == PART_BYTES
    for size in (PART_BYTES * MAX_PARTS + 1, 5 * 1024**4):
        assert size <= part_bytes(size, MAX_PARTS) * MAX_PARTS <= size * 1.2


@pytest.mark.parametrize("may", [("s3:PutObject", "s3:AbortMultipartUpload"), ("s3:PutObject",)])
def test_a_delivery_that_is_stopped_leaves_nothing_to_be_seen(
    s3: S3, tmp_path: Path, may: tuple[str, ...]
) -> None:
    file, name = tmp_path / "local", f"stopped-{len(may)}"
    file.write_bytes(bytes(30 * MIB))

    def stop(sent: int) -> None:
        if sent:
            raise KeyError("cancelled")

    opened = allowed(s3).open(s3.bucket(name, may), timeout_s=10)
    with pytest.raises(KeyError, match="cancelled"):
        opened.put_file("a.json", file, "application/json", stop)
    assert s3.objects(name) == {}
    assert s3.unfinished(name) == ([] if "s3:AbortMultipartUpload" in may else ["a.json"])


def test_folders_of_a_bucket_and_awkward_names(s3: S3) -> None:
    made = s3.bucket("prefixed")
    below = msgspec.structs.replace(made, url="s3://prefixed/a%20b//%C3%BC%2525+%23/")
    allowed(s3).open(below, timeout_s=10).put_bytes("sub/50% (1)+.json", b"x", "application/json")
    assert s3.objects("prefixed") == {"a b/ü%25+#/sub/50% (1)+.json": b"x"}


def test_temporary_keys(s3: S3) -> None:
    s3.bucket("temporary")
    given = s3.temporary("temporary")
    allowed(s3).open(given, timeout_s=10).put_bytes("a", b"x", "text/plain")
    assert s3.objects("temporary") == {"a": b"x"}
    cut = msgspec.structs.replace(given, session_token="c29tZWJvZHkgZWxzZSdzIHRva2Vu")
    with failing_quietly(DestinationDenied, cut):
        allowed(s3).open(cut, timeout_s=10).put_bytes("a", b"x", "text/plain")


@pytest.mark.parametrize("renewed", [True, False])
def test_keys_that_are_replaced_while_a_file_is_on_its_way(s3: S3, tmp_path: Path, renewed: bool) -> None:
    file, name = tmp_path / "local", f"replaced-{renewed}".lower()
    file.write_bytes(bytes(50 * MIB))
    before = s3.bucket(name)
    after = s3.bucket(name) if renewed else before

    def swap(sent: int) -> None:
        if sent == 32 * MIB:
            s3.revoke(before)
            time.sleep(REFRESH_S)

    opened = allowed(s3).open(before, timeout_s=10, refresh=lambda: after)
    if renewed:
        opened.put_file("a.json", file, "application/json", swap)
        assert len(s3.objects(name)["a.json"]) == 50 * MIB
    else:
        with failing_quietly(DestinationDenied, before):
            opened.put_file("a.json", file, "application/json", swap)


@pytest.mark.parametrize(
    "other",
    [
        bucket("s3://other", endpoint="https://files.example.com", access_key_id="AKIAOTHER"),
        Destination(url="download:"),
    ],
)
def test_keys_of_another_place_are_not_sent_to_this_one(tmp_path: Path, other: Destination) -> None:
    file = tmp_path / "local"
    file.write_bytes(bytes(17 * MIB))

    def answer(request: Asked) -> Answer:
        return 200, {"ETag": '"x"'}, BEGUN if request.command == "POST" else b""

    def refresh() -> Destination:
        asked.append(len(server.seen))
        return other

    asked: list[int] = []
    with answering(answer) as server:
        here = bucket(endpoint=server.origin)
        opened = Destinations(server.origin).open(here, timeout_s=10, refresh=refresh)
        with failing_quietly(DestinationError, here):  # what was begun is also the answer to the end
            opened.put_file(
                "a.json", file, "text/plain", lambda sent: time.sleep(REFRESH_S / 2 if sent else 0)
            )
    signed = [request.headers["authorization"] for request in server.seen]
    assert len(signed) >= 5
    assert asked
    assert all(KEYS["access_key_id"] in text for text in signed)


def test_what_asking_for_new_keys_raises_stops_the_delivery(s3: S3, tmp_path: Path) -> None:
    file = tmp_path / "local"
    file.write_bytes(bytes(33 * MIB))

    def refresh() -> Destination:
        raise KeyError("the task is gone")

    opened = allowed(s3).open(s3.bucket("gone"), timeout_s=10, refresh=refresh)
    with pytest.raises(KeyError, match="the task is gone"):
        opened.put_file("a", file, "text/plain", lambda sent: time.sleep(REFRESH_S if sent == 0 else 0))
    assert s3.objects("gone") == {}


def test_the_environment_of_other_tools_does_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    with (
        answering(lambda _request: (200, {"ETag": '"x"'}, b"")) as server,
        answering(lambda _request: (200, {}, b"{}")) as metadata,
    ):
        for name, value in {
            "AWS_ACCESS_KEY_ID": "OTHER",
            "AWS_SECRET_ACCESS_KEY": "other",
            "AWS_SESSION_TOKEN": "other",
            "AWS_ENDPOINT": metadata.origin,
            "AWS_ENDPOINT_URL": metadata.origin,
            "AWS_ENDPOINT_URL_S3": metadata.origin,
            "AWS_METADATA_ENDPOINT": metadata.origin,
            "AWS_CONTAINER_CREDENTIALS_FULL_URI": metadata.origin,
            "AWS_REGION": "other",
            "AWS_DEFAULT_REGION": "other",
            "AWS_BUCKET": "other",
            "AWS_SKIP_SIGNATURE": "true",
            "AWS_UNSIGNED_PAYLOAD": "true",
            "AWS_VIRTUAL_HOSTED_STYLE_REQUEST": "true",
            "AWS_S3_EXPRESS": "true",
            "AWS_REQUEST_PAYER": "true",
            "AWS_ROLE_ARN": "other",
            "AWS_WEB_IDENTITY_TOKEN_FILE": "/nowhere",
            "AWS_PROFILE": "other",
        }.items():
            monkeypatch.setenv(name, value)
        here = bucket(endpoint=server.origin)
        Destinations(server.origin).open(here, timeout_s=5).put_bytes("a", b"x", "text/plain")
        with failing_quietly(Invalid, bucket()):
            Destinations(server.origin).check(Destination(url="s3://exports", endpoint=server.origin))
    (request,) = server.seen
    assert request.path == "/exports/2030/a"
    assert f"Credential={KEYS['access_key_id']}/" in request.headers["authorization"]
    assert "/eu-west-1/s3/aws4_request" in request.headers["authorization"]
    assert request.headers["x-amz-content-sha256"] == hashlib.sha256(b"x").hexdigest()
    assert request.headers["x-amz-security-token"] is None
    assert request.headers["x-amz-request-payer"] is None
    assert metadata.seen == []


# --- what is said when a bucket does not take a file --------------------------------------------------


@pytest.mark.parametrize("size", [10, 20 * MIB])
def test_refused_keys(s3: S3, tmp_path: Path, size: int) -> None:
    file = tmp_path / "local"
    file.write_bytes(bytes(size))
    good = s3.bucket("refusing")
    wrong = {"secret_access_key": "notthesecretofthiskey"}
    unknown = {"access_key_id": "AKIAUNKNOWNUNKNOWN00"}
    reader = s3.bucket("refusing", ("s3:GetObject",))
    for destination, code, word in (
        (msgspec.structs.replace(good, **wrong), "SignatureDoesNotMatch", "not that of the access key id"),
        (msgspec.structs.replace(good, **unknown), "InvalidAccessKeyId", "no such access key id"),
        (reader, "AccessDenied", "may not put objects"),
    ):
        with failing_quietly(DestinationDenied, destination) as caught:
            allowed(s3).open(destination, timeout_s=10).put_file("a", file, "text/plain")
        assert f"403 {code}" in caught.value.message
        assert word in caught.value.hint
    assert s3.objects("refusing") == {}


@pytest.mark.parametrize("size", [10, 20 * MIB])
def test_a_missing_bucket(s3: S3, tmp_path: Path, size: int) -> None:
    file = tmp_path / "local"
    file.write_bytes(bytes(size))
    missing = s3.destination("never-made", **s3.keys(("*",), "*"))
    with failing_quietly(DestinationMissing, missing) as caught:
        allowed(s3).open(missing, timeout_s=10).put_file("a", file, "text/plain")
    assert "NoSuchBucket" in caught.value.message


@pytest.mark.parametrize(
    ("status", "body", "expected", "word"),
    [
        (200, "", DestinationError, "not what a bucket answers"),  # without the ETag that every bucket gives
        (301, "PermanentRedirect", DestinationError, "region"),
        (307, "TemporaryRedirect", DestinationError, "307"),
        (
            400,
            "AuthorizationHeaderMalformed</Code><Region>ap-south-1</Region><Code>",
            DestinationError,
            "ap-south-1",
        ),
        (400, "AuthorizationHeaderMalformed", DestinationError, "AuthorizationHeaderMalformed"),
        (400, "ExpiredToken", DestinationDenied, "expired"),
        (400, "InvalidToken", DestinationDenied, "session token"),
        (400, "EntityTooLarge", DestinationError, "in parts"),
        (400, "RequestTimeout", DestinationUnreachable, "RequestTimeout"),
        (403, "RequestTimeTooSkewed", DestinationDenied, "clock"),
        (404, "NoSuchBucket", DestinationMissing, "NoSuchBucket"),
        (429, "TooManyRequests", DestinationUnreachable, "TooManyRequests"),
        (501, "NotImplemented", DestinationError, "endpoint"),
        (503, "SlowDown", DestinationUnreachable, "SlowDown"),
    ],
)
def test_answers_become_our_errors(status: int, body: str, expected: type[OuthaulError], word: str) -> None:
    error = f"<Error><Code>{body}</Code></Error>" if status != 200 else ""
    location = {"Location": "https://files.example.com/"} if status == 307 else {}
    with answering(lambda _request: (status, location, error.encode())) as server:
        here = bucket(endpoint=server.origin)
        with failing_quietly(expected, here) as caught:
            Destinations(server.origin).open(here, timeout_s=5).put_bytes("a", b"x", "text/plain")
    assert word in str(caught.value)


@pytest.mark.parametrize("status", [200, 301, 307, 400, 401, 403, 404, 409, 500, 503])
def test_a_server_that_repeats_what_it_was_sent(status: int) -> None:
    token = "FwoGZXIvYXdzEBYaDExampleSessionTokenOfLetters"

    def answer(request: Asked) -> Answer:
        heard = f"{request.headers} {KEYS['secret_access_key']} {token}"
        body = f"<Error><Code>{token}</Code><Region>{token}</Region><Message>{heard}</Message></Error>"
        # As the name of an error: the secret's letters, or a piece of them among others.
        name = ["Because" + token[9:20], "wJalrXUtnFEMI", token.lower()][len(server.seen) % 3]
        return (
            status,
            {"x-amz-bucket-region": token},
            body.replace(f"<Code>{token}", f"<Code>{name}").encode(),
        )

    with answering(answer) as server:
        here = bucket(endpoint=server.origin, session_token=token)
        for _ in range(3):
            with failing_quietly(OuthaulError, here, exactly=False) as caught:
                Destinations(server.origin).open(here, timeout_s=5).put_bytes("a", b"x", "text/plain")
            for piece in (token[9:20], token[9:20].lower(), "wJalrXUtnFEMI"):
                assert piece not in str(caught.value)


def test_a_host_that_is_not_there() -> None:
    with answering(lambda _request: (200, {}, b"")) as server:
        origin = server.origin
    here = bucket(endpoint=origin)
    with failing_quietly(DestinationUnreachable, here) as caught:
        Destinations(origin).open(here, timeout_s=5).put_bytes("a", b"x", "text/plain")
    assert "cannot be reached" in caught.value.message


def test_a_destination_and_its_container_do_not_show_their_keys() -> None:
    here = bucket(session_token="IQoJb3JpZ2luX2Vj")
    opened = Destinations(resolve=named, now=lambda: NOW).open(here, timeout_s=1)
    shown = repr(here) + "".join(map(repr, (opened, *vars(opened).values())))
    assert [secret for secret in (*KEYS.values(), "IQoJb3JpZ2luX2Vj") if secret in shown] == []
