"""Show all of Outhaul in under a minute: devices send, exports land in a folder, their manifests add up.

Run by `make demo`. Starts a real server on a folder of its own, talks to it as apps and clients do, and stops
it. The folder stays, to look around in.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import httpx2
import pyarrow.parquet as pq
from phones import native_records, send_segment

from outhaul.client import Collector

PHONES = 120
DAY_S = 86_400
STARTUP_S = 60.0
WIDTH = 100
RESOURCE = "https://management.core.windows.net/"
OUTHAUL = (sys.executable, "-m", "outhaul")


def main() -> int:
    """Run the demo; the exit code is 0 when everything it shows came out right."""
    folder = Path(tempfile.mkdtemp(prefix="outhaul-demo-"))
    data, exports = folder / "data", folder / "exports"
    exports.mkdir()
    port = _free_port()
    url = f"http://127.0.0.1:{port}"
    environment = {**os.environ, "OUTHAUL_DATA": str(data), "OUTHAUL_DESTINATIONS": exports.as_uri() + "/"}

    _say("1. Start the server")
    log = (folder / "server.log").open("wb")
    command = [*OUTHAUL, "serve", "--port", str(port)]
    _show(f"OUTHAUL_DATA={data}")
    _show(f"OUTHAUL_DESTINATIONS={environment['OUTHAUL_DESTINATIONS']}")
    _show("outhaul serve --port", str(port))
    server = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
    try:
        _wait_until_up(url, server, folder)
        app = _cli(environment, "apps", "create", "shop", "--platform", "android")
        credential = _cli(environment, "credentials", "create", "reports", "--role", "contributor")
        scopes = ("--scope", "exports:read", "--scope", "exports:write")
        token = _cli(environment, "tokens", "create", "demo", *scopes)
        environment |= {"OUTHAUL_URL": url, "OUTHAUL_TOKEN": token["secret"]}
        sent = _send(url, app["sdkKey"])
        succeeded = (
            _ask(environment, exports)
            and _ask_as_before(url, environment, app, credential, exports)
            and _look(exports, sent)
        )
    finally:
        code = _stop(server)
        log.close()
    _say("7. Stop the server")
    print(
        f"   stopped cleanly, exit code {code}"
        if code == 0
        else f"   exit code {code}: see {folder}/server.log"
    )
    print(f"   Files stay in {exports}; the server's data in {data}")
    print(f"   Look at it again: outhaul serve --data {data}")
    return 0 if succeeded and code == 0 else 1


def _send(url: str, sdk_key: str) -> dict[str, int]:
    """Send; how many rows each export must have."""
    now, rng = int(time.time()), random.Random(1)
    _say("2. Phones send, with the SDK of Segment")
    started = time.monotonic()
    messages, events = send_segment(url, sdk_key, PHONES, now - DAY_S, rng)
    print(f"   {messages} messages from {PHONES} phones, acknowledged in {time.monotonic() - started:.1f} s")
    _say("3. More phones send, in Outhaul's own protocol")
    started = time.monotonic()
    records = list(native_records(PHONES, now - DAY_S, rng))
    with Collector(url, sdk_key) as collector:
        sent = collector.send(records)
    print(f"   {sent} records from {PHONES} phones, acknowledged in {time.monotonic() - started:.1f} s")
    events += sum(record["kind"] == "event" for record in records)
    # Each phone was used once, so it had one session.
    return {"Event": events, "Session": 2 * PHONES, "Device": 2 * PHONES}


def _days(last: int) -> tuple[str, str]:
    """From two days ago to `last` days after today, as dates in UTC."""
    first, then = (time.gmtime(time.time() + shift * DAY_S) for shift in (-2, last))
    return time.strftime("%Y-%m-%d", first), time.strftime("%Y-%m-%d", then)


def _ask(environment: dict[str, str], exports: Path) -> bool:
    _say("4. Ask for an export and follow it")
    start, end = _days(1)
    words = ["export", "create", "shop", "event", "--from", start, "--to", end, "--format", "parquet"]
    words += ["--destination", exports.as_uri() + "/", "--wait"]
    _show("outhaul", *words)
    return subprocess.run([*OUTHAUL, *words], env=environment, check=False).returncode == 0


def _ask_as_before(
    url: str, environment: dict[str, str], app: dict[str, str], credential: dict[str, str], exports: Path
) -> bool:
    _say("5. Ask as clients of Azure Mobile Engagement did")
    form = {
        "grant_type": "client_credentials",
        "client_id": credential["clientId"],
        "client_secret": credential["clientSecret"],
        "resource": RESOURCE,
    }
    path = (
        f"/subscriptions/{app['subscriptionId']}/resourceGroups/{app['resourceGroup']}/providers/"
        f"Microsoft.MobileEngagement/appcollections/{app['appCollection']}/apps/{app['appName']}/devices/exportTasks"
    )
    start, end = _days(0)
    wanted = {
        "sessions": {"exportFormat": "CsvBlob", "startDate": start, "endDate": end},
        "devices": {"exportFormat": "JsonBlob"},
    }
    succeeded = True
    with httpx2.Client(base_url=url, params={"api-version": "2014-12-01"}, timeout=30) as http:
        answer = http.post(f"/{credential['tenantId']}/oauth2/token", data=form).raise_for_status()
        headers = {"Authorization": f"Bearer {answer.json()['access_token']}"}
        tasks = []
        for name, body in wanted.items():
            body["containerUrl"] = exports.as_uri() + "/"
            task = http.post(f"{path}/{name}", json=body, headers=headers).raise_for_status().json()
            print(f"   POST …/devices/exportTasks/{name} → {task['state']}, task {task['id']}")
            tasks.append(task["id"])
    for task in tasks:
        _show("outhaul export watch", task)
        watched = subprocess.run(
            [*OUTHAUL, "export", "watch", task], env=environment, check=False, stdout=subprocess.DEVNULL
        )
        succeeded = succeeded and watched.returncode == 0
    return succeeded


def _look(exports: Path, sent: dict[str, int]) -> bool:
    """Show the files; whether they hold what was sent and are what their manifests say."""
    _say("6. Look at what arrived")
    complete = True
    for path in sorted(exports.glob("*.manifest.json")):
        manifest = json.loads(path.read_text())
        kind, rows, file = manifest["exportType"], manifest["rows"], manifest["files"][0]
        print(f"\n   {exports / file['name']}")
        for text in _first_lines(exports / file["name"]):
            print(f"      {text[:WIDTH]}{'…' if len(text) > WIDTH else ''}")
        same = hashlib.sha256((exports / file["name"]).read_bytes()).hexdigest() == file["sha256"]
        print(f"   {path}")
        print(
            f"      rows: {rows}, where {sent[kind]} were sent; table versions: {manifest['tableVersions']}"
        )
        print(
            f"      bytes: {manifest['bytes']}; sha256: {file['sha256'][:16]}…, {'as' if same else 'NOT as'} the file's"
        )
        complete = complete and same and rows == sent[kind]
    print("\n   Everything sent is there, once." if complete else "\n   Something is missing.")
    return complete


def _first_lines(path: Path) -> list[str]:
    if path.suffix == ".parquet":
        rows = pq.read_table(path).slice(0, 3).to_pylist()
        return [str({name: value for name, value in row.items() if value is not None}) for row in rows]
    with path.open(encoding="utf-8") as lines:
        return [line.rstrip() for line in itertools.islice(lines, 3)]


def _stop(server: subprocess.Popen[bytes]) -> int:
    if server.poll() is None:
        server.send_signal(signal.SIGTERM)
    return server.wait(60)


def _cli(environment: dict[str, str], *arguments: str) -> dict[str, Any]:
    _show("outhaul", *arguments)
    done = subprocess.run(
        [*OUTHAUL, *arguments, "--json"], env=environment, check=True, stdout=subprocess.PIPE
    )
    values: dict[str, Any] = json.loads(done.stdout)
    return values


def _wait_until_up(url: str, server: subprocess.Popen[bytes], folder: Path) -> None:
    deadline = time.monotonic() + STARTUP_S
    while server.poll() is None and time.monotonic() < deadline:
        try:
            if httpx2.get(f"{url}/healthz").is_success:
                return
        except httpx2.TransportError:
            time.sleep(0.1)
    raise SystemExit(f"The server did not start:\n{(folder / 'server.log').read_text()}")


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def _say(text: str) -> None:
    print(f"\n{text}", flush=True)


def _show(*words: str) -> None:
    print(f"   $ {' '.join(words)}", flush=True)


if __name__ == "__main__":
    # Line by line, so that what the commands print in between comes in order.
    sys.stdout.reconfigure(line_buffering=True)
    sys.exit(main())
