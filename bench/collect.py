"""How fast devices are taken in, beside a bare ASGI app on the same server.

    python bench/collect.py [--rounds 5] [--seconds 5] [--connections 64] [--data FOLDER]

Both run on granian with one worker and uvloop, in turn, while wrk posts batches of 50 records over keep-alive
connections. Ours checks the key, looks through the JSON, and answers after the batch is synced to disk.
"""

import argparse
import json
import os
import re
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from outhaul.journal import read, segments
from outhaul.ledger.ledger import Ledger

HERE = Path(__file__).parent
RECORDS = 50


def batch():
    """50 events like those of a real app, about 12 KB."""
    records = [
        {
            "kind": "event",
            "id": f"0198c2f05a1d7c3e{number:08d}",
            "deviceId": "93bdf26ebdede0ac0fb123e32dd0ef6e",
            "sessionId": "e9f2a9fb4d5c4ce2b33daa338ac3a3f6",
            "name": "product_viewed",
            "timestamp": 1_763_900_000_000 + number,
            "extras": {
                "sku": f"SKU-{number:05d}",
                "price": 12.5 + number,
                "currency": "EUR",
                "from": "search",
            },
        }
        for number in range(RECORDS)
    ]
    return json.dumps({"records": records}, separators=(",", ":")).encode()


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Server:
    """granian with one of our two apps, for as long as the `with` lasts."""

    def __init__(self, target, environment):
        self.port = free_port()
        command = [
            sys.executable,
            "-m",
            "granian",
            "--interface",
            "asgi",
            "--loop",
            "uvloop",
            "--workers",
            "1",
        ]
        command += ["--port", str(self.port), "--log-level", "warning", f"{target}:app"]
        self.process = subprocess.Popen(command, cwd=HERE, env=environment)

    def __enter__(self):
        for _ in range(200):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return self
            time.sleep(0.05)
        self.process.kill()
        raise SystemExit("The server did not start.")

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait(30)


def measure(target, environment, seconds, connections):
    """Requests per second, and the latency of one in a hundred, as wrk saw them."""
    with Server(target, environment) as server:
        url = f"http://127.0.0.1:{server.port}/api/v1/collect"
        load = ["wrk", "-t1", f"-c{connections}", "--latency", "-s", "batch.lua"]
        subprocess.run([*load, "-d1", url], cwd=HERE, env=environment, check=True, capture_output=True)
        ran = subprocess.run(
            [*load, f"-d{seconds}", url],
            cwd=HERE,
            env=environment,
            check=True,
            capture_output=True,
            text=True,
        )
    if "Non-2xx" in ran.stdout or "Socket errors" in ran.stdout:
        raise SystemExit(f"{target} refused requests:\n{ran.stdout}")
    return float(re.search(r"Requests/sec:\s+([\d.]+)", ran.stdout)[1]), re.search(
        r"99%\s+(\S+)", ran.stdout
    )[1]


def stored(data):
    """Batches in the journal, after the server has closed it."""
    return sum(1 for segment in segments(data / "journal", 0) for _ in read(segment, inflated_limit=1 << 20))


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    arguments.add_argument("--rounds", type=int, default=5)
    arguments.add_argument("--seconds", type=int, default=5)
    arguments.add_argument("--connections", type=int, default=64)
    arguments.add_argument(
        "--data", type=Path, default=None, help="where the journal is; a real disk, not tmpfs"
    )
    chosen = arguments.parse_args()
    body = batch()
    rates = {"bare": [], "durable": []}
    with tempfile.TemporaryDirectory(dir=chosen.data) as folder:
        data = Path(folder)
        app = Ledger(data).create_app("bench", "android", 0)
        (data / "batch.json").write_bytes(body)
        environment = {
            **os.environ,
            "BENCH_DATA": str(data),
            "BENCH_BODY": str(data / "batch.json"),
            "BENCH_KEY": app.sdk_key,
        }
        print(f"{RECORDS} records, {len(body)} bytes a batch; {chosen.connections} connections")
        for _ in range(chosen.rounds):
            for target, results in rates.items():
                rate, slowest = measure(target, environment, chosen.seconds, chosen.connections)
                results.append(rate)
                kept = f", {stored(data)} batches in the journal" if target == "durable" else ""
                print(
                    f"  {target:8} {rate:9.0f} requests/s {rate * RECORDS:10.0f} records/s  99% in {slowest}{kept}"
                )
                shutil.rmtree(data / "journal", ignore_errors=True)
    bare, durable = (statistics.median(results) for results in rates.values())
    print(f"median: bare {bare:.0f}, durable {durable:.0f} requests/s = {durable * RECORDS:.0f} records/s")
    print(f"ratio:  {durable / bare:.2f}")


if __name__ == "__main__":
    main()
