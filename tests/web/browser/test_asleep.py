"""A page that sleeps for longer than the server keeps its feed: DNSTRAIL_ASLEEP=3600 sleeps for an hour.

If the host has more than 10,000 questions or connections in this time, the case `all` shows the newest of them.
"""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from playwright.sync_api import expect

from dnstrail.bus.ipc import lookups_address
from dnstrail_web.feed import RESUME
from live.ports import free_port
from live.processes import PATIENCE, run_dir, text_of, wait_until

ASLEEP = float(os.environ.get("DNSTRAIL_ASLEEP", "3"))  # seconds
LONG = 60.0  # seconds in which a host may have more facts than a page shows
WINDOW = RESUME if ASLEEP > RESUME else ASLEEP / 10  # seconds for which the server keeps the feed of a page that left
SERVE = """
import sys
from dnstrail_web import feed
feed.RESUME = float(sys.argv.pop(1))
from dnstrail_web.__main__ import command
command()
"""


class Network:
    """The way from a browser to a server, which can be cut."""

    def __init__(self, port: int) -> None:
        self.port = free_port("127.0.0.1")
        self.server_port = port
        self._open: list[socket.socket] = []
        self.mend()

    def mend(self) -> None:
        """Carry connections from now on."""
        self._listener = socket.create_server(("127.0.0.1", self.port))
        threading.Thread(target=self._accept, args=(self._listener,), daemon=True).start()

    def cut(self) -> None:
        """End all connections, and refuse further ones."""
        for one in (self._listener, *self._open):
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()
        self._open.clear()

    def _accept(self, listener: socket.socket) -> None:
        with suppress(OSError):
            while True:
                ends = listener.accept()[0], socket.create_connection(("127.0.0.1", self.server_port))
                self._open += ends
                for source, target in (ends, ends[::-1]):
                    threading.Thread(target=self._carry, args=(source, target), daemon=True).start()

    def _carry(self, source: socket.socket, target: socket.socket) -> None:
        with suppress(OSError):
            while part := source.recv(1 << 16):
                target.sendall(part)
        with suppress(OSError):
            target.shutdown(socket.SHUT_RDWR)


@pytest.fixture
def network(watched, request) -> Iterator[tuple[Network, str]]:
    """Serve the page of the pipeline once more, with a feed that is kept for WINDOW seconds. Yield its link, too.

    The parameter of a test states whether this page has the history.
    """
    network = Network(free_port("127.0.0.1"))
    with run_dir() as folder:
        owner = watched.history.stat()
        options = {
            "--run-dir": folder / "web",
            "--user": f"{owner.st_uid}:{owner.st_gid}",
            "--cache": lookups_address(watched.run.folder),
            "--folder": watched.history if request.param else "none",
            "--listen": network.server_port,
            "--behind-proxy": f"http://127.0.0.1:{network.port}",
        }
        folder.chmod(0o755)
        words = [str(word) for pair in options.items() for word in pair]
        with subprocess.Popen([sys.executable, "-c", SERVE, str(WINDOW), *words]) as process:
            link = folder / "web/web.link"
            wait_until(lambda: process.poll() is not None or text_of(link), "the link")
            assert process.poll() is None
            yield network, link.read_text().strip()
            network.cut()
            process.terminate()
            process.wait(PATIENCE)


WATCH = """() => {
    window.slept = 0;
    let last = performance.now();
    setInterval(() => {
        window.slept = Math.max(window.slept, performance.now() - last);
        last = performance.now();
    }, 50);
}"""
LIVE = Path(__file__).parents[3] / "services/web/dnstrail_web/static/js/now/live.js"


@contextmanager
def suspended(browser) -> Iterator[None]:
    """Suspend the processes of all pages of a browser, as a host that sleeps."""
    found = browser.new_browser_cdp_session().send("SystemInfo.getProcessInfo")["processInfo"]
    pages = [one["id"] for one in found if one["type"] == "renderer"]
    try:
        for page in pages:
            os.kill(page, signal.SIGSTOP)
        yield
    finally:
        for page in pages:
            os.kill(page, signal.SIGCONT)


@pytest.mark.timeout(ASLEEP + 5 * PATIENCE)
@pytest.mark.parametrize(
    ("network", "most", "said", "names"),
    [
        (True, "MOST / 2", "the facts of this time are from the history", ["b", "c"]),
        (True, "1", "of this time the newest 1 facts of each kind are shown", []),
        (False, "MOST / 2", "the facts of this time are missing", []),
    ],
    indirect=["network"],
    ids=["all", "newest", "none"],
)
def test_a_page_resumes_after_its_sleep(watched, network, context, request, most, said, names):
    """A page that is suspended, without a network, shows what the history has of this time, states it, and goes on."""
    way, link = network
    window = context.browser.new_context(viewport={"width": 1280, "height": 800})
    window.set_default_timeout(1000 * PATIENCE)
    page = window.new_page()
    module = LIVE.read_text().replace("MOST_MISSED = MOST / 2", f"MOST_MISSED = {most}")
    page.route("**/now/live.js", lambda route: route.fulfill(body=module, content_type="text/javascript"))
    page.goto(link)
    domain = f"{request.node.callspec.id}.any.example"
    page.goto(f"http://127.0.0.1:{way.port}/now?group=none&filter=name:*.{domain}")
    page.locator(".dot.live").wait_for()
    page.evaluate(WATCH)
    rows = page.locator(".body .row")
    watched.resolve(f"a.{domain}")
    rows.filter(has_text=f"a.{domain}").first.wait_for()
    with suspended(context.browser):
        way.cut()
        watched.resolve(f"b.{domain}")
        time.sleep(ASLEEP)
        watched.resolve(f"c.{domain}")  # for nobody: the server stops to keep the feed
        wait_until(lambda: watched.log("--name", f"c.{domain}"), "the log")
        way.mend()
    stated = page.locator(".notice", has_text="No feed from")
    if names and ASLEEP > LONG:
        said, names = re.compile(f"{said}|the newest"), ["c"]
    expect(stated).to_contain_text(said, timeout=1000 * PATIENCE)
    page.locator(".dot.live").wait_for()
    for name in names:
        rows.filter(has_text=f"{name}.{domain}").first.wait_for()
    watched.resolve(f"d.{domain}")
    rows.filter(has_text=f"d.{domain}").first.wait_for()
    assert page.evaluate("window.slept") >= 1000 * ASLEEP
    sys.stdout.write(f"asleep for {ASLEEP:.0f} s: {page.locator('.notice').inner_text()}\n")
    window.close()
