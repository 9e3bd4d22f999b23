"""The browser that other tests use sees what its pages reach for, and lets it get no further than this machine."""

from __future__ import annotations

import os
import socket
import subprocess

import pytest

from answering import Answer, Site
from browser import Browser
from reached import Reached, node_hosts, node_options


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    with Browser(tmp_path_factory.mktemp("browser")) as opened:
        yield opened


def test_pages_run_scripts_and_keep_their_storage(browser):
    script = "localStorage.n = given.n; return [typeof AnalyticsNext, isSecureContext]"
    assert browser.run(script, "@segment/analytics-next/dist/umd/index.js", given={"n": 5}) == [
        "object",
        True,
    ]
    steps = {"more": lambda value: value + 1}
    assert browser.run("return await step('more', Number(localStorage.n))", steps=steps) == 6
    with pytest.raises(AssertionError, match="no such thing"):
        browser.run("throw new Error('no such thing')")


def test_hosts_are_recorded_and_only_this_machine_is_reached(browser):
    def answer(_request):
        return Answer(200, b"here", {"Access-Control-Allow-Origin": "*"})

    script = """
    const ask = (url) => fetch(url).then((answer) => answer.text(), () => 'unreachable');
    return [await ask(given), await ask('https://example.com/x'), await ask('http://example.org/y')];
    """
    other = Site()
    other.answer = answer
    assert browser.run(script, given=f"{other.url}/z") == ["here", "unreachable", "unreachable"]
    other.close()
    assert browser.run(script, given=f"{other.url}/z")[0] == "unreachable"
    host = other.url.removeprefix("http://")
    assert set(browser.hosts) == {host, "example.com:443", "example.org"}
    first, *later = browser.passed
    assert (first.method, first.url, first.status) == ("GET", f"http://{host}/z", 200)
    # A browser asks once more by itself where nobody answers.
    assert {sent.status for sent in later} == {0}


def test_whom_other_sdks_reach_is_recorded(tmp_path, node):
    hosts = tmp_path / "hosts"
    script = "fetch('http://nowhere.invalid/').catch(() => fetch('http://127.0.0.1:65001/').catch(() => 0))"
    environment = {**os.environ, **node_options(hosts, node)}
    subprocess.run(["node", "-e", script], env=environment, check=True, timeout=30)
    assert node_hosts(hosts) == {"nowhere.invalid", "127.0.0.1"}
    with Reached() as reached:
        for host in ("nowhere.invalid", "127.0.0.1"):
            with pytest.raises(OSError, match=r".+"), socket.create_connection((host, 65001), 1):
                pass
    assert reached.hosts == {"nowhere.invalid", "127.0.0.1"}
