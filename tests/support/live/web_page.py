"""A running page for tests, and the requests of browsers, programs and attackers."""

from __future__ import annotations

import http.client
import json
import socket
import subprocess
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from live.processes import PATIENCE, resident, started, text_of, wait_until


class WebPage:
    """A page that runs. `cookie` is the header of a browser that was let in, once `enter` was called."""

    def __init__(self, process: subprocess.Popen[str], run_dir: Path, port: int = 0) -> None:
        self.process = process
        self.run_dir = run_dir
        self.cookie = ""
        self.port = port or urlsplit(self.link).port or 0
        self.host = f"127.0.0.1:{self.port}"

    @property
    def link(self) -> str:
        """The present link."""
        return (self.run_dir / "web.link").read_text().strip()

    def enter(self) -> str:
        """Exchange the token of the link, and return the header with the cookie."""
        found = urlsplit(self.link)
        status, headers, _ = self.request("GET", f"/?{found.query}", cookie="")
        assert status == 303
        self.cookie = headers["set-cookie"].partition(";")[0]
        return self.cookie

    def request(
        self, method: str, path: str, body: bytes | None = None, cookie: str | None = None, **headers: str
    ) -> tuple[int, dict[str, str], bytes]:
        """Return status, headers and body of a reply."""
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        if cookie := self.cookie if cookie is None else cookie:
            sent["Cookie"] = cookie
        with closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)) as connection:
            connection.request(method, path, body, sent)
            reply = connection.getresponse()
            return reply.status, {name.lower(): value for name, value in reply.getheaders()}, reply.read()

    def json(self, path: str) -> Any:
        """Return what a route replies."""
        return json.loads(self.request("GET", path)[2])

    def send(self, method: str, path: str, value: object, **headers: str) -> tuple[int, Any]:
        """Send JSON; return status and reply."""
        kind = {"Content_Type": "application/json", **headers}
        status, _, body = self.request(method, path, json.dumps(value).encode(), **kind)
        return status, json.loads(body)

    def raw(self, *parts: bytes) -> bytes:
        """Send bytes, and return all that is replied until the end of the connection."""
        with closing(self.connect()) as connection:
            with suppress(OSError):  # it was closed already
                for part in parts:
                    connection.sendall(part)
            return received(connection)

    def connect(self) -> socket.socket:
        """Return a new connection."""
        connection = socket.create_connection(("127.0.0.1", self.port), PATIENCE)
        connection.settimeout(PATIENCE)
        return connection

    def feed(self, query: str = "", last: str = "") -> WebFeed:
        """Begin to read the live feed."""
        connection = self.connect()
        resume = f"Last-Event-ID: {last}\r\n" if last else ""
        head = f"GET /api/events{query} HTTP/1.1\r\nHost: {self.host}\r\nCookie: {self.cookie}\r\n{resume}\r\n"
        connection.sendall(head.encode())
        return WebFeed(connection)

    @property
    def memory(self) -> float:
        """The resident memory of the process in MiB."""
        return resident(self.process.pid)


class WebFeed:
    """A reader of the live feed."""

    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection
        self._bytes = connection.makefile("rb")
        self.status = int(self._bytes.readline().split()[1])
        while self._bytes.readline().strip():
            pass

    def messages(self) -> Iterator[tuple[str, str, Any]]:
        """Yield the id, the kind and the data of each message."""
        fields: dict[str, str] = {}
        for line in self._bytes:
            text = line.decode().rstrip("\r\n")
            name, colon, value = text.partition(": ")
            if colon:
                fields[name] = value
            elif not text and "data" in fields:
                yield fields.get("id", ""), fields["event"], json.loads(fields["data"])
                fields = {}

    def next(self, *kinds: str) -> tuple[str, str, Any]:
        """Return the next message of some kinds."""
        return next(one for one in self.messages() if one[1] in kinds)

    def close(self) -> None:
        """Leave."""
        self._bytes.close()
        self.connection.close()


def received(connection: socket.socket) -> bytes:
    """Return what is received until the end of a connection."""
    found = b""
    try:
        while part := connection.recv(1 << 16):
            found += part
    except OSError:
        return found
    return found


@contextmanager
def web_page(run_dir: Path, *options: str | Path) -> Iterator[WebPage]:
    """Run the page of a run-dir at a free port."""
    place = () if "--listen" in options else ("--listen", "0")
    with started("web", "--run-dir", run_dir, *place, *options) as process:
        link = run_dir / "web.link"
        wait_until(lambda: process.poll() is not None or text_of(link), "the link")
        assert process.poll() is None, process.stderr and process.stderr.read()
        listen = "0" if place else str(options[options.index("--listen") + 1])
        page = WebPage(process, run_dir, int(listen.rpartition(":")[2]))
        wait_until(lambda: page.raw(b"no HTTP\r\n\r\n") or page.link.startswith("https"), "the page")
        yield page
