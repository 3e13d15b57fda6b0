"""A real Chromium before a real pipeline: all tests of the page share one of each. `make test-web` runs them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from live.namespaces import SENDER, SERVER, Hosts, dnsmasq, hosts, live_or_skip
from live.pipelines import Run, pipeline
from live.ports import free_port
from live.processes import run_dir, wait_until

if os.environ.get("DNSTRAIL_BROWSER"):
    from playwright.sync_api import BrowserContext, ConsoleMessage, Page, sync_playwright
else:
    collect_ignore_glob = ["test_*.py"]

CHROMIUM = "/usr/bin/chromium"
ARGUMENTS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",  # Chromium asks for names of its own
]
LIFE = 600  # seconds: the TTL of the names that stay
FORGETS = 15  # seconds after their end that the image remembers relations; the others last a second
HUB = 1200  # names of one address
PATIENCE = 60_000  # ms for the page
_ANSWERS = (
    f"--cname=www.shop.example,shop.cdn.example,{LIFE}",
    f"--cname=shop.cdn.example,edge.cdn.example,{LIFE}",
    f"--cname=news.example,edge.cdn.example,{LIFE}",
    f"--host-record=edge.cdn.example,{SENDER},{LIFE}",
    f"--cname=www.crowd.example,edge.crowd.example,{LIFE}",
    f"--host-record=edge.crowd.example,{SERVER},{LIFE}",
    f"--address=/hostile.example/{SERVER}",
    *(f"--host-record=hub{number}.crowd.example,{SERVER},{LIFE}" for number in range(HUB)),
    "--local=/gone.example/",
    "--local-ttl=1",
)
WATCHED = "watched.any.example"


@dataclass(frozen=True)
class Watched:
    """A watched client with its pipeline, history and page. `began` is the time of its first question."""

    hosts: Hosts
    run: Run
    history: Path
    address: str
    link: str
    began: float

    def resolve(self, name: str) -> None:
        """Resolve a name on the client by the C library."""
        self.hosts.on_client("getent", "ahostsv4", name)

    def python(self, program: str, *arguments: str) -> str:
        """Run a Python program on the client to its end; return its output."""
        done = self.hosts.on_client(sys.executable, "-c", program, *arguments, timeout=120)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def command(self, *arguments: str) -> str:
        """Run a command of dnstrail; return its output."""
        command = [sys.executable, "-m", "dnstrail_cli", *arguments]
        return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False).stdout

    def log(self, *arguments: str) -> list[dict[str, Any]]:
        """Return what `dnstrail log --json` prints."""
        return [
            json.loads(line)
            for line in self.command("log", "--json", "--folder", str(self.history), *arguments).splitlines()
        ]


@contextmanager
def _web_server(namespace: str) -> Iterator[None]:
    """Accept connections to port 80 in a namespace; each one is closed when its client closes it."""
    command = [sys.executable, "-m", "http.server", "80", "--bind", SERVER, "--directory", "/var/empty"]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    with subprocess.Popen(["ip", "netns", "exec", namespace, *command], **quiet) as process:
        yield
        process.terminate()


@pytest.fixture(scope="session")
def watched() -> Iterator[Watched]:
    """Run the pipeline with history and page, while a client resolves names of a server in namespaces of their own."""
    live_or_skip()
    with ExitStack() as stack:
        both = stack.enter_context(hosts())
        folder = stack.enter_context(run_dir())
        folder.chmod(0o755)
        stack.enter_context(dnsmasq(both.server, SENDER, 53, f"/any.example/{SERVER}", *_ANSWERS))
        Path(f"/etc/netns/{both.client}/resolv.conf").write_text(f"nameserver {SENDER}\n")
        wait_until(lambda: both.on_client("getent", "hosts", "x.any.example").returncode == 0, "the second server")
        stack.enter_context(_web_server(both.server))
        watch_list = folder / "list"
        watch_list.write_text(f"{WATCHED}\nhostile.example\n")
        stack.enter_context(pytest.MonkeyPatch.context()).setenv("DNSTRAIL_WATCH_LIST", str(watch_list))
        port = free_port("127.0.0.1")
        history = folder / "history"
        options = ("--evidence", "sni", "--dnscache", f"grace=0,history={FORGETS}", "--events", "WATCHED_NAME")
        run = stack.enter_context(
            pipeline("--output", "json", *options, "--history-folder", str(history), "--web", str(port))
        )
        link = run.folder / "web.link"
        wait_until(link.exists, "the link")
        began = time.time()
        made = Watched(both, run, history, f"http://127.0.0.1:{port}", link.read_text().strip(), began)
        made.resolve("short.any.example")
        yield made


@pytest.fixture(scope="session")
def context(watched: Watched) -> Iterator[BrowserContext]:
    """Start Chromium, and sign in by the link."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        context = browser.new_context(viewport={"width": 1280, "height": 800}, color_scheme="light")
        context.set_default_timeout(PATIENCE)
        page = context.new_page()
        page.goto(watched.link)
        page.close()
        yield context
        browser.close()


@dataclass
class Seen:
    """A page, and what it complained about. `tolerated` states a complaint that the test expects."""

    page: Page
    address: str
    complaints: list[str] = field(default_factory=list)
    tolerated: Callable[[str], bool] = lambda _: False

    def open(self, path: str) -> Page:
        """Open a view, and wait until it has been drawn."""
        self.page.goto(self.address + path)
        self.page.wait_for_selector("main h1", state="attached")
        return self.page

    def hear(self, message: ConsoleMessage) -> None:
        """Note an error or a warning of the console."""
        if message.type in {"error", "warning"}:
            self.complaints.append(f"{message.text} {message.location.get('url', '')}")


@pytest.fixture
def seen(context: BrowserContext, watched: Watched) -> Iterator[Seen]:
    """Open a page that must not complain."""
    page = context.new_page()
    seen = Seen(page, watched.address)
    page.on("console", seen.hear)
    page.on("pageerror", lambda error: seen.complaints.append(str(error)))
    yield seen
    page.close()
    assert [one for one in seen.complaints if not seen.tolerated(one)] == []
