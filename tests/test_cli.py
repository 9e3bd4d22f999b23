"""The command line, as a person or a script meets it."""

from __future__ import annotations

import contextlib
import io
import json
import os
import pty
import re
import socket
import ssl
import subprocess
import sys
import threading
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import trustme

from commands import runner, shower
from outhaul import errors
from outhaul.cli.exits import EXITS, exit_code
from running import Server

if TYPE_CHECKING:
    from collections.abc import Iterator

DAY = "2026-11-20"


@pytest.fixture
def data(tmp_path):
    return tmp_path / "data"


@pytest.fixture
def run(data, capsys, monkeypatch):
    """Run a command on the data folder: exit code, stdout, stderr."""
    monkeypatch.setenv("OUTHAUL_DATA", str(data))
    monkeypatch.setenv("OUTHAUL_CONFIG", str(data.parent / "config.toml"))
    for name in ("PROFILE", "URL", "TOKEN"):
        monkeypatch.delenv(f"OUTHAUL_{name}", raising=False)

    return runner(capsys)


@pytest.fixture
def show(run):
    """Run a command that must succeed; what it prints as JSON."""
    return shower(run)


def test_an_app_and_its_names(show, run):
    app = show("apps", "create", "shop", "--platform", "ios")
    assert set(app) == {
        *("subscriptionId", "tenantId", "resourceGroup", "appCollection", "appName"),
        *("appId", "sdkKey", "name", "platform", "disabledAt"),
    }
    assert (app["name"], app["platform"], app["appName"]) == ("shop", "ios", "shop-ios")
    assert show("apps", "create", "shop")["platform"] == "android"
    listed = show("apps", "list")["apps"]
    assert [entry["platform"] for entry in listed] == ["ios", "android"]
    assert listed[0] == app
    code, text, _ = run("apps", "list")
    assert code == 0
    assert all(entry[name] in text for entry in listed for name in ("appId", "appName", "sdkKey"))
    assert show("apps", "create", "more", "--collection", "shop")["appCollection"] == "shop"


def test_an_app_is_disabled_and_enabled(show, run):
    app = show("apps", "create", "shop")
    assert app["disabledAt"] is None
    disabled = show("apps", "disable", app["appId"])
    assert disabled["disabledAt"]
    assert show("apps", "list")["apps"] == [disabled]
    assert disabled["disabledAt"] in run("apps", "list")[1]
    assert show("apps", "enable", "shop") == app
    assert run("apps", "disable", "nonsense")[0] == 4
    assert [entry["action"] for entry in show("audit")["entries"]] == [
        "app.enable",
        "app.disable",
        "app.create",
    ]


def test_a_credential_shows_its_secret_once(show, run):
    made = show("credentials", "create", "reports", "--role", "reader")
    assert set(made) == {"subscriptionId", "tenantId", "clientId", "clientSecret", "name", "role"}
    assert made["role"] == "reader"
    assert show("credentials", "create", "all")["role"] == "owner"
    listed = show("credentials", "list")["credentials"]
    assert listed[0]["clientId"] == made["clientId"]
    assert made["clientSecret"] not in json.dumps(listed)
    assert made["clientSecret"] not in run("credentials", "list")[1]


def test_errors_say_what_to_try(run):
    run("apps", "create", "shop")
    code, out, err = run("apps", "create", "shop")
    assert (code, out) == (6, "")
    assert err.startswith("Error: There is an app 'shop' for android already.\nTry: ")


def test_errors_as_json(run):
    run("apps", "create", "shop")
    code, out, err = run("apps", "create", "shop", "--json")
    assert (code, out) == (6, "")
    error = json.loads(err)["error"]
    assert error["code"] == "conflict"
    assert set(error) == {"code", "message", "hint", "requestId"}
    code, _, err = run("apps", "create", "--json")
    assert code == 2
    assert json.loads(err)["error"]["code"] == "usage"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["apps", "create"], "Missing argument 'NAME'"),
        (["apps", "create", "x", "--platform", "dos"], "'dos' is not one of"),
        (["nonsense"], "No such command 'nonsense'"),
        (["rejects", "--reason", "dull"], "'dull' is not one of"),
        (["serve", "--port", "0"], "0 is not in the range"),
        (["serve", "--tls-cert", __file__], "--tls-cert and --tls-key go together"),
    ],
)
def test_wrong_calls_exit_with_2(run, words, message):
    code, _, err = run(*words)
    assert code == 2
    assert message in err
    assert "Try: outhaul " in err


def test_help_has_examples(run):
    for words in ([], ["apps"], ["apps", "create"], ["collect"], ["export"], ["export", "watch"]):
        code, out, _ = run(*words, "--help")
        assert code == 0
        assert "Example:\n    " in out


def test_a_mistyped_folder_is_not_made(run, data):
    for words in (
        ["apps", "list"],
        ["credentials", "list"],
        ["tokens", "list"],
        ["tables", "list"],
        ["rejects"],
        ["audit"],
    ):
        code, _, err = run(*words)
        assert code == 4
        assert f"{data} is not a data folder" in err
    assert not data.exists()


def test_settings_that_cannot_be_used_stop_the_server(run, monkeypatch):
    monkeypatch.setenv("OUTHAUL_THREADS", "many")
    code, _, err = run("serve")
    assert code == 1
    assert err.startswith("Error: OUTHAUL_THREADS is 'many'.\nTry: ")


def test_a_token_is_made_rotated_and_revoked(show, run):
    app = show("apps", "create", "shop")
    scopes = ("--scope", "exports:read", "--scope", "exports:write")
    made = show("tokens", "create", "nightly", *scopes, "--app", "shop", "--expires-in", "90d")
    assert made["scopes"] == ["exports:read", "exports:write"]
    assert (made["app"], made["appId"], made["createdBy"]) == ("shop", app["appId"], "operator")
    lifetime = datetime.fromisoformat(made["expiresAt"]) - datetime.fromisoformat(made["createdAt"])
    assert lifetime == timedelta(days=90)
    assert made["secret"].startswith("outhaul_")
    code, text, _ = run("tokens", "create", "everywhere", "--scope", "audit:read")
    assert code == 0
    assert re.search(r"^outhaul_[\w-]{43}$", text, re.MULTILINE)
    assert run("tokens", "create", "nightly", *scopes)[0] == 6
    rotated = show("tokens", "rotate", "nightly", "--overlap", "2h")
    assert rotated["secret"] != made["secret"]
    assert rotated["previousUntil"] > made["createdAt"]
    revoked = show("tokens", "revoke", made["id"])
    assert revoked["revokedAt"]
    assert run("tokens", "revoke", "nightly")[0] == 4
    listed = show("tokens", "list")["tokens"]
    assert [token["name"] for token in listed] == ["nightly", "everywhere"]
    assert [token["name"] for token in show("tokens", "list", "--app", "shop")["tokens"]] == ["nightly"]
    text = run("tokens", "list")[1]
    assert re.search(r"nightly +revoked +shop +exports:read exports:write +\d{4}-", text)
    assert re.search(r"everywhere +valid +\(all\) +audit:read +never", text)
    assert not {made["secret"], rotated["secret"]} & set(re.split(r"[\s\"]", text + json.dumps(listed)))


def test_what_the_operator_did_is_in_the_audit_log(show, run):
    app = show("apps", "create", "shop")
    credential = show("credentials", "create", "reports")
    token = show("tokens", "create", "nightly", "--scope", "exports:read", "--app", app["appId"])
    show("tokens", "rotate", "nightly")
    show("tokens", "revoke", "nightly")
    entries = show("audit")["entries"]
    assert {entry["actor"] for entry in entries} == {"operator"}
    assert [(entry["action"], entry["target"]) for entry in reversed(entries)] == [
        ("app.create", app["appId"]),
        ("credential.create", credential["clientId"]),
        ("token.create", token["id"]),
        ("token.rotate", token["id"]),
        ("token.revoke", token["id"]),
    ]
    assert [entry["action"] for entry in show("audit", "--limit", "1")["entries"]] == ["token.revoke"]
    assert len(show("audit", "--app", "shop")["entries"]) == 4
    assert "token.rotate" in run("audit")[1]


@pytest.mark.parametrize("span", ["90", "d", "1y", "-1d"])
def test_spans_that_are_none(run, span):
    code, _, err = run("tokens", "create", "x", "--scope", "exports:read", "--expires-in", span)
    assert (code, "is not a span of time" in err) == (2, True)


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion(run, shell):
    code, script, _ = run("completion", shell)
    assert code == 0
    assert f"_OUTHAUL_COMPLETE={shell}_complete" in script


def test_bash_completes_commands_and_options(tmp_path):
    folder = Path(sys.executable).parent
    script = (
        "source <(outhaul completion bash)\n"
        'ask() { COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); COMPREPLY=(); _outhaul_completion outhaul; '
        'echo "${COMPREPLY[@]}"; }\n'
        "ask outhaul exp\nask outhaul export create --dest\nask outhaul export list --state fa\n"
    )
    environment = {**os.environ, "PATH": f"{folder}:{os.environ['PATH']}"}
    done = subprocess.run(
        ["bash", "-c", script], env=environment, check=True, capture_output=True, text=True, cwd=tmp_path
    )
    assert done.stdout.splitlines() == [
        "export",
        "--destination --destination-env --destination-file",
        "failed",
    ]


def test_every_exit_code_has_one_meaning():
    codes = [way.code for way in EXITS]
    assert codes == [0, 1, 2, 3, 4, 5, 6, 7, 130]
    expected = {
        **dict.fromkeys([errors.Unauthenticated, errors.Forbidden], 3),
        errors.NotFound: 4,
        **dict.fromkeys(
            [errors.ExportFailed, errors.ErasureFailed, errors.ImportFailed, errors.Cancelled], 5
        ),
        errors.Conflict: 6,
        **dict.fromkeys([errors.Busy, errors.TooMany, errors.Unreachable], 7),
    }
    for error in (getattr(errors, name) for name in dir(errors)):
        if isinstance(error, type) and issubclass(error, errors.OuthaulError):
            assert exit_code(error("x")) == expected.get(error, 1), error


def test_colours_only_where_they_are_wanted(data):
    def seen(**environment: str) -> bytes:
        ours, terminal = pty.openpty()
        command = [sys.executable, "-m", "outhaul", "tokens", "list", "--data", str(data)]
        settings = {**os.environ, "TERM": "xterm", **environment}
        subprocess.run(command, stderr=terminal, env=settings, check=False)
        os.close(terminal)
        text = b""
        with contextlib.suppress(OSError):  # Linux: the other end was closed
            while part := os.read(ours, 4096):
                text += part
        os.close(ours)
        return text

    assert seen().startswith(b"\x1b[31mError:\x1b[0m ")
    assert seen(NO_COLOR="1").startswith(b"Error: ")
    assert seen(TERM="dumb").startswith(b"Error: ")


# Profiles


URL, TOKEN = "http://127.0.0.1:9", "outhaul_s3cret"


@pytest.fixture
def stdin(monkeypatch):
    return lambda text: monkeypatch.setattr(sys, "stdin", io.StringIO(text))


def test_a_profile_is_set_shown_and_removed(show, run, stdin, data):
    file = data.parent / "config.toml"
    assert show("config", "path") == {"path": str(file), "exists": False}
    stdin(TOKEN + "\n")
    assert run("config", "set", f"{URL}/", "--no-check")[:2] == (0, f"Profile default is {URL}, in {file}.\n")
    stdin(TOKEN)
    made = show("config", "set", "https://outhaul.example", "--profile", "live", "--no-check")
    assert made == {"profile": "live", "url": "https://outhaul.example", "path": str(file), "caller": None}
    assert show("config", "list")["profiles"] == [
        {"name": "default", "url": URL, "chosen": True},
        {"name": "live", "url": "https://outhaul.example", "chosen": False},
    ]
    shown = show("config", "show")
    assert shown == {
        "profile": "default",
        "url": URL,
        "urlFrom": "file",
        "tokenFrom": "file",
        "path": str(file),
    }
    texts = [
        run("config", *words)[1] for words in (["list"], ["show"], ["show", "--profile", "live"], ["path"])
    ]
    assert "*  default" in texts[0]
    assert TOKEN not in "".join(texts)
    assert run("config", "remove", "live")[0] == 0
    assert run("config", "show", "--profile", "live")[0] == 4
    assert run("config", "remove", "live")[0] == 4


def test_where_a_value_comes_from(show, monkeypatch):
    assert show("config", "show")["url"] is None
    monkeypatch.setenv("OUTHAUL_URL", URL)
    monkeypatch.setenv("OUTHAUL_TOKEN", TOKEN)
    shown = show("config", "show")
    assert (shown["urlFrom"], shown["tokenFrom"]) == ("OUTHAUL_URL", "OUTHAUL_TOKEN")


def test_a_profile_that_cannot_be_set(run, stdin, data):
    for url, token, code in ((URL, "", 1), ("ftp://x", TOKEN, 1), (URL, f"{TOKEN} two", 1)):
        stdin(token)
        got, _, err = run("config", "set", url, "--no-check")
        assert got == code
        assert TOKEN not in err
    assert not (data.parent / "config.toml").exists()


def test_a_token_that_is_typed_is_not_seen(run, data):
    spawn = "import pty, sys; pty.spawn(sys.argv[1:])"
    command = [
        sys.executable,
        "-c",
        spawn,
        sys.executable,
        "-m",
        "outhaul",
        "config",
        "set",
        URL,
        "--no-check",
    ]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as typing:
        seen = b""
        while not seen.endswith(b"Token: "):
            seen += typing.stdout.read1()
        time.sleep(0.2)  # the prompt is there a moment before what is typed stops being echoed
        typing.stdin.write(f"{TOKEN}\n".encode())
        typing.stdin.flush()
        seen += typing.stdout.read()
    assert b"Profile default is" in seen
    assert TOKEN.encode() not in seen
    assert TOKEN in (data.parent / "config.toml").read_text()


def test_a_command_that_needs_a_server_says_how_to_name_one(run, monkeypatch):
    code, _, err = run("export", "list")
    assert (code, "outhaul config set" in err) == (1, True)
    monkeypatch.setenv("OUTHAUL_URL", URL)
    code, _, err = run("export", "list")
    assert (code, "OUTHAUL_TOKEN" in err) == (3, True)


# Sending, and what was set aside: with a real server


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cli")
    with Server(folder / "data", land_interval_ms="100") as server:
        server.app = server.cli("apps", "create", "shop")
        yield server


def collect(
    served: Server, *words: str, text: bytes = b"", key: str | None = None
) -> subprocess.CompletedProcess:
    environment = {**os.environ, "OUTHAUL_SDK_KEY": served.app["sdkKey"] if key is None else key}
    command = [sys.executable, "-m", "outhaul", "collect", *words, "--url", served.url]
    return subprocess.run(command, env=environment, input=text, capture_output=True, check=False)


def rejects(served: Server, *words: str, total: int) -> dict:
    """What was set aside, once there are so many of them."""
    deadline = time.monotonic() + 20
    while True:
        found = served.cli("rejects", *words)
        if sum(count["count"] for count in found["counts"]) >= total or time.monotonic() > deadline:
            return found
        time.sleep(0.1)


def line(**fields) -> bytes:
    record = {"kind": "event", "deviceId": "d1", "timestamp": f"{DAY}T12:00:00Z", **fields}
    return json.dumps(record).encode() + b"\n"


def test_a_file_is_sent_and_what_is_wrong_is_shown(served, tmp_path):
    file = tmp_path / "records.ndjson"
    good = line(name="opened") + line(name="opened") + b"\n" + line(name="closed", id="mine")
    file.write_bytes(good + line(name="x" * 65) + line(name="y", extras={"k": "v" * 2000}))
    for _ in range(2):
        done = collect(served, str(file), "--json")
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout) == {"sent": 5}
    found = rejects(served, total=2)
    counts = {count["reason"]: count["count"] for count in found["counts"]}
    assert set(counts) == {"name_invalid", "extras_too_long"}
    assert {row["appId"] for row in found["newest"]} == {served.app["appId"]}
    long_name = next(row for row in found["newest"] if row["reason"] == "name_invalid")
    assert json.loads(long_name["raw"])["name"] == "x" * 65
    assert long_name["protocol"] == "native"
    only = rejects(served, "--reason", "extras_too_long", "--limit", "1", total=1)
    assert [count["reason"] for count in only["counts"]] == ["extras_too_long"]
    assert len(only["newest"]) == 1
    assert rejects(served, "--app", "and999999", total=0) == {"counts": [], "newest": []}
    text = subprocess.run(
        [sys.executable, "-m", "outhaul", "rejects", "--data", str(served.data)],
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    assert "name_invalid" in text
    assert "x" * 65 in text


def test_the_same_file_again_doubles_nothing(served, tmp_path):
    file = tmp_path / "records.ndjson"
    file.write_bytes(b"".join(line(name="again", deviceId=f"again-{n % 7}") for n in range(700)))
    for _ in range(3):
        assert collect(served, str(file)).returncode == 0
    assert wait_for_events(served, "again", 700) == 700


def wait_for_events(served: Server, name: str, count: int) -> int:
    """How many events of that name are in the table, once there are enough and everything sent before has landed."""
    polars = pytest.importorskip("polars")
    table = Path(served.data) / "tables" / served.app["appId"] / "event"
    collect(served, "-", text=line(name="last-of-" + name))
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        if (table / "_delta_log").is_dir():
            names = polars.scan_delta(str(table)).group_by("name").len().collect()
            found = dict(names.iter_rows())
            if f"last-of-{name}" in found and found.get(name, 0) >= count:
                return found[name]
        time.sleep(0.1)
    raise AssertionError("the events did not land")


def test_standard_input(served):
    done = collect(served, "-", text=line(name="piped"))
    assert done.returncode == 0
    assert done.stdout.split() == [b"sent", b"1"]


def test_sending_goes_wrong(served):
    done = collect(served, "-", text=line(name="a") + b"{nonsense\n")
    assert done.returncode == 1
    assert done.stderr.startswith(b"Error: Line 2 is not a JSON object")
    done = collect(served, "-", text=b"[1]\n")
    assert b"Line 1 is not a JSON object" in done.stderr
    done = collect(served, "-", text=line(name="a"), key="")
    assert b"OUTHAUL_SDK_KEY is not set" in done.stderr
    done = collect(served, "-", text=line(name="a"), key="wrong-key")
    assert done.returncode == 3
    assert b"does not know this SDK key" in done.stderr
    assert b"wrong-key" not in done.stderr
    done = collect(served, "/does/not/exist")
    assert done.returncode == 2
    assert b"Error: " in done.stderr


def test_tables_add_up(served):
    days = [f"2026-11-{day}T12:00:00Z" for day in (18, 19, 19)]
    collect(served, "-", text=b"".join(line(name="counted", deviceId="c", timestamp=day) for day in days))
    wait_for_events(served, "counted", 3)
    listed = served.cli("tables", "list", "--app", "shop")["tables"]
    event = next(entry for entry in listed if entry["table"] == "event")
    shown = served.cli("tables", "show", "shop", "event")
    assert {name: value for name, value in shown.items() if name != "byDay"} == event
    by_day = {day["day"]: day for day in shown["byDay"]}
    assert (by_day["2026-11-18"]["rows"], by_day["2026-11-19"]["rows"]) == (1, 2)
    for total in ("rows", "files", "bytes"):
        assert sum(day[total] for day in shown["byDay"]) == event[total] > 0
    stored = (served.data / "tables" / served.app["appId"] / "event").glob("day=*/*.parquet")
    assert event["bytes"] <= sum(file.stat().st_size for file in stored)
    assert (event["days"], event["firstDay"], event["lastDay"]) == (len(by_day), "2026-11-18", DAY)
    assert event["version"] >= 1


def test_tables_that_are_not_there(run):
    run("apps", "create", "shop")
    assert run("tables", "list")[:2] == (
        0,
        "app  table  rows  files  bytes  days  version  first day  last day\n",
    )
    code, _, err = run("tables", "show", "shop", "event")
    assert (code, "Nothing has landed" in err) == (4, True)
    assert run("tables", "show", "other", "event")[0] == 4
    assert run("tables", "show", "shop", "nonsense")[0] == 2


# The doctor


def examine(environment: dict[str, str], *words: str) -> tuple[int, dict[str, dict]]:
    """The exit code, and what was found by name."""
    command = [sys.executable, "-m", "outhaul", "doctor", "--json", *words]
    kept = {name: value for name, value in os.environ.items() if not name.startswith("OUTHAUL_")}
    done = subprocess.run(command, env={**kept, **environment}, capture_output=True, check=False)
    found = json.loads(done.stdout)
    assert found["ok"] == (done.returncode == 0), done.stderr
    return done.returncode, {check["name"]: check for check in found["checks"]}


def results(found: dict[str, dict]) -> dict[str, str]:
    return {name: check["result"] for name, check in found.items() if check["result"] != "ok"}


def test_a_server_that_is_well(served, tmp_path):
    token = served.cli("tokens", "create", "doctor", "--scope", "exports:read", "--expires-in", "90d")[
        "secret"
    ]
    settings = {"OUTHAUL_CONFIG": str(tmp_path / "config.toml"), "OUTHAUL_URL": served.url}
    code, found = examine({**settings, "OUTHAUL_TOKEN": token}, "--data", str(served.data))
    assert (code, results(found)) == (0, {})
    assert "exports:read" in found["token"]["detail"]
    assert "token:doctor" in found["token"]["detail"]
    assert token not in json.dumps(found)
    code, found = examine({**settings, "OUTHAUL_TOKEN": "outhaul_wrong"})
    assert (code, results(found)) == (1, {"token": "fail"})
    assert found["token"]["cure"]


def test_what_is_wrong_with_a_profile(tmp_path):
    file = tmp_path / "config.toml"
    settings = {"OUTHAUL_CONFIG": str(file)}
    assert results(examine(settings)[1]) == {"profile": "warn"}
    file.write_text('[profiles.default]\nurl = "http://127.0.0.1:9"\ntoken = "t"\n')
    file.chmod(0o644)
    code, found = examine(settings)
    assert (code, results(found)) == (1, {"config file": "fail", "server": "fail"})
    assert found["config file"]["cure"] == f"chmod 600 {file}"
    assert results(examine(settings, "--profile", "typo")[1])["profile"] == "fail"
    file.write_text("nonsense")
    assert results(examine(settings)[1])["profile"] == "fail"


def test_what_is_wrong_with_a_folder(tmp_path):
    data, settings = tmp_path / "data", {"OUTHAUL_CONFIG": str(tmp_path / "config.toml")}
    code, found = examine(settings, "--data", str(data))
    assert (code, results(found)["data folder"]) == (1, "fail")
    assert not data.exists()
    environment = {**os.environ, "OUTHAUL_DATA": str(data)}
    subprocess.run([sys.executable, "-m", "outhaul", "apps", "create", "shop"], env=environment, check=True)
    code, found = examine(settings, "--data", str(data))
    assert (code, results(found)) == (0, {"profile": "warn", "worker": "warn"})
    (data / "journal").mkdir()
    left = data / "journal" / "00000000000000000001.open"
    left.write_bytes(bytes(5000))
    os.utime(left, (1, 1))
    found = examine(settings, "--data", str(data))[1]["journal"]
    assert (found["result"], found["detail"]) == ("warn", "5 kB wait to land; nothing has landed yet")
    data.chmod(0o755)
    (data / "secret.key").write_bytes(b"no key")
    (data / "ledger.db").write_bytes(b"no database" * 1000)
    code, found = examine({**settings, "OUTHAUL_DESTINATIONS": "nonsense"}, "--data", str(data))
    assert (code, results(found)) == (1, {"profile": "warn", "data folder": "fail"})
    data.chmod(0o700)
    found = results(examine({**settings, "OUTHAUL_DESTINATIONS": "nonsense"}, "--data", str(data))[1])
    assert {name for name, result in found.items() if result == "fail"} == {
        *("settings", "secret key", "ledger", "journal"),
    }


@contextlib.contextmanager
def speaking_tls(issued: trustme.LeafCert) -> Iterator[str]:
    """The URL of something that does no more than shake hands."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    issued.configure_cert(context)
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve() -> None:
            with contextlib.suppress(OSError):  # closed
                while True:
                    connection, _ = listening.accept()
                    with connection, contextlib.suppress(ssl.SSLError):
                        context.wrap_socket(connection, server_side=True).close()

        threading.Thread(target=serve, daemon=True).start()
        yield f"https://localhost:{listening.getsockname()[1]}"


@pytest.mark.parametrize(("days", "result"), [(90.5, "ok"), (3, "warn"), (-1, "fail")])
def test_a_certificate(tmp_path, days, result):
    authority = trustme.CA()
    bundle = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(str(bundle))
    settings = {"OUTHAUL_CONFIG": str(tmp_path / "config.toml")}
    issued = authority.issue_cert("localhost", not_after=datetime.now(UTC) + timedelta(days=days))
    with speaking_tls(issued) as url:
        found = examine({**settings, "OUTHAUL_URL": url, "SSL_CERT_FILE": str(bundle)})[1]["transport"]
        assert found["result"] == result, found
        if result == "ok":
            assert "ends in 90 d" in found["detail"]
            assert examine({**settings, "OUTHAUL_URL": url})[1]["transport"]["result"] == "fail"


def test_what_the_doctor_says_to_people(run):
    code, out, _ = run("doctor")
    assert code == 1
    assert re.search(r"^ok    packages          outhaul \d", out, re.MULTILINE)
    assert re.search(
        r"^fail  data folder +.* is not a data folder of Outhaul\.\n +Try: outhaul apps", out, re.MULTILINE
    )
