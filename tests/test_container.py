"""Where deliveries may go, what of it may be shown, and what is said of what may not."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from urllib.parse import quote

import pytest

from delivering import NOW, SIGNATURE, TOKEN, at, destinations, everything_told, failing_quietly
from gcs import account
from outhaul.address import resolve
from outhaul.container import Destinations, describe
from outhaul.errors import DestinationRefused, DestinationUnreachable, Invalid
from outhaul.wire import DOWNLOAD, Destination

if TYPE_CHECKING:
    from pathlib import Path

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
    destinations().check(at(url))


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
            destinations().check(at(url))
        assert "OUTHAUL_DESTINATIONS" in caught.value.hint
        with failing_quietly(DestinationRefused, url):
            destinations().open(at(url), timeout_s=1)


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
        destinations().check(at(url))


def test_a_refusal_names_scheme_and_host_and_the_prefix_to_add() -> None:
    with pytest.raises(DestinationRefused) as caught:
        destinations().check(at(f"http://127.1:10000/devstoreaccount1/hidden?{TOKEN}"))
    assert "http://127.0.0.1" in caught.value.message
    assert "http://127.0.0.1:10000/ " in caught.value.hint
    assert "hidden" not in str(caught.value)
    with pytest.raises(DestinationRefused) as caught:
        destinations().check(at("file:///srv/my%20exports/"))
    assert "file:///srv/my%20exports/ " in caught.value.hint


def test_the_prefix_of_a_refusal_allows_what_was_refused() -> None:
    for url in (
        f"http://[::1]:10000/acct/exports?{TOKEN}",
        "file:///srv/a%2Cb%25/",
        f"http://minio.inner/exports?{TOKEN}",
    ):
        with pytest.raises(DestinationRefused) as caught:
            destinations().check(at(url))
        prefix = re.search(r"add (\S+) to", caught.value.hint)
        assert prefix
        destinations(prefix[1]).check(at(url))


@pytest.mark.parametrize(
    "url",
    [
        "",
        "exports",
        "/srv/exports",
        "DefaultEndpointsProtocol=https;AccountName=acct;AccountKey=abc",
        f"acct.blob.core.windows.net/exports?{TOKEN}",
        f"ftp://acct.blob.core.windows.net/exports?{TOKEN}",
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
        destinations("https://1.2.3.4.5.example/,file:///nowhere/").check(at(url))
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
        destinations().check(at(f"{url}?{TOKEN}"))
    destinations(prefix).check(at(f"{url}?{TOKEN}"))


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
        destinations(prefix).check(at(f"{url}?{TOKEN}"))


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
    destinations(f"file://{tmp_path}/exports/").check(at(f"file://{tmp_path}/{path}"))


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
        allowed.check(at(f"file://{tmp_path}/{path}"))
    with pytest.raises(DestinationRefused):
        allowed.open(at(f"file://{tmp_path}/{path}"), timeout_s=1)


def test_a_name_that_became_private_is_refused_at_delivery() -> None:
    answers = iter([[], ["10.0.0.1"]])
    changing = Destinations(resolve=lambda _host, _port: next(answers), now=lambda: NOW)
    url = f"https://acct.blob.core.windows.net/exports?{TOKEN}"
    changing.check(at(url))
    with failing_quietly(DestinationRefused, url):
        changing.open(at(url), timeout_s=1)


def test_a_name_that_does_not_resolve_is_unreachable_at_delivery() -> None:
    url = f"https://unknown.blob.core.windows.net/exports?{TOKEN}"
    with failing_quietly(DestinationUnreachable, url) as caught:
        destinations().open(at(url), timeout_s=1)
    assert "does not resolve" in caught.value.message


def test_names_are_resolved_as_the_system_does() -> None:
    with pytest.raises(DestinationRefused):
        Destinations().check(at(f"https://localhost.localdomain.localhost/exports?{TOKEN}"))
    assert "127.0.0.1" in resolve("localhost", 443)
    assert resolve("no-such-host.invalid", 443) == []


# --- members, and what may be shown -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("destination", "member"),
    [
        (Destination(url=f"https://acct.blob.core.windows.net/exports?{TOKEN}", sas_token=TOKEN), "sasToken"),
        (Destination(url="https://acct.blob.core.windows.net/exports", sas_token="sig=%ff"), "sasToken"),
        (Destination(url="https://acct.blob.core.windows.net/exports", region="eu-west-1"), "region"),
        (
            Destination(url="https://acct.blob.core.windows.net/exports", endpoint="https://x.example"),
            "endpoint",
        ),
        (Destination(url="https://acct.blob.core.windows.net/exports", access_key_id="a"), "accessKeyId"),
        (Destination(url="file:///srv/exports/", sas_token=TOKEN), "sasToken"),
        (Destination(url="file:///srv/exports/", secret_access_key="b"), "secretAccessKey"),
        (Destination(url=DOWNLOAD, session_token="c"), "sessionToken"),
        (Destination(url=DOWNLOAD, service_account={}), "serviceAccount"),
    ],
)
def test_a_member_that_does_not_belong_to_the_url_is_named(destination: Destination, member: str) -> None:
    with pytest.raises(Invalid, match=rf"destination\.{member} ") as caught:
        destinations("file:///srv/exports/").check(destination)
    assert SIGNATURE not in everything_told(caught.value)
    assert quote(SIGNATURE, safe="") not in everything_told(caught.value)


def test_a_token_may_be_beside_a_url_that_was_copied_from_a_listing() -> None:
    url = "https://acct.blob.core.windows.net/exports?restype=container&comp=list"
    destinations().open(Destination(url=url, sas_token=f"?{TOKEN}"), timeout_s=1)


KEYS = {
    "access_key_id": "AKIAIOSFODNN7EXAMPLE",
    "secret_access_key": "wJalrXUtnFEMIK7MDENGbPxRfiCYEXAMPLEKEY",
}


@pytest.mark.parametrize(
    ("destination", "shown"),
    [
        (
            at(f"HTTPS://ACCT.blob.core.windows.net:443/exports//2030/a%20b/?{TOKEN}"),
            "https://acct.blob.core.windows.net/exports/2030/a%20b",
        ),
        (at(f"http://127.0.0.1:10000/acct/exports?{TOKEN}"), "http://127.0.0.1:10000/acct/exports"),
        (at(f"https://acct.blob.core.windows.net/$web?{TOKEN}"), "https://acct.blob.core.windows.net/$web"),
        (Destination(url="s3://exports/a%20b/", region="eu-west-1", **KEYS), "s3://exports/a%20b"),
        (
            Destination(url="s3://exports", endpoint="https://minio.inner:9000", **KEYS),
            "s3://exports at https://minio.inner:9000",
        ),
        (Destination(url="gs://exports/2030", service_account=account()), "gs://exports/2030"),
        (at("file:///srv/my%20exports/"), "file:///srv/my%20exports"),
        (at(DOWNLOAD), DOWNLOAD),
    ],
)
def test_what_may_be_shown_of_a_destination(destination: Destination, shown: str) -> None:
    assert describe(destination) == shown


def test_what_is_no_destination_is_not_shown() -> None:
    for url in (
        "exports",
        f"https://user:{SIGNATURE}@acct.blob.core.windows.net/exports?{TOKEN}",
        "s3://exports",
    ):
        with failing_quietly(Invalid, url):
            describe(at(url))


# --- downloads ----------------------------------------------------------------------------------------


def test_downloads_are_kept_in_a_folder_of_their_task(tmp_path: Path) -> None:
    file = tmp_path / "local"
    file.write_bytes(b"content")
    keeping = Destinations(downloads=tmp_path / "downloads")
    keeping.check(at(DOWNLOAD))
    opened = keeping.open(at(DOWNLOAD), timeout_s=1, task_id="6f1c")
    opened.put_file("Event_6f1c.json", file, "application/json")
    opened.put_bytes("Event_6f1c.manifest.json", b"{}", "application/json")
    kept = tmp_path / "downloads" / "6f1c"
    assert {path.name for path in kept.iterdir()} == {"Event_6f1c.json", "Event_6f1c.manifest.json"}
    assert (kept / "Event_6f1c.json").samefile(file)


@pytest.mark.parametrize("task_id", ["", ".", "..", "a/b"])
def test_downloads_stay_in_their_folder(tmp_path: Path, task_id: str) -> None:
    with pytest.raises(ValueError, match="downloads need"):
        Destinations(downloads=tmp_path).open(at(DOWNLOAD), timeout_s=1, task_id=task_id)


@pytest.mark.parametrize("url", ["download:x", "download://host/", "download:/etc/passwd", "download"])
def test_a_download_is_kept_nowhere_else(url: str) -> None:
    with failing_quietly(Invalid, url):
        destinations().check(at(url))
