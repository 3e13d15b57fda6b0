"""ClickHouse's engine behind the part of its HTTP interface that dnstrail uses: clickhouse_front.py PORT FOLDER.

The folder contains the certificate with its key, and `users`: a name and a password a line. The engine is the package
chdb in .clickhouse. It executes one statement at a time, and has no users of its own.
"""

from __future__ import annotations

import re
import ssl
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import parse_qsl, urlsplit

ROOT = Path(__file__).parents[3] / ".clickhouse"
SETTINGS = {
    "async_insert",
    "max_execution_time",
    "max_partitions_per_insert_block",
    "mutations_sync",
    "output_format_json_quote_64bit_integers",
    "max_threads",
    "optimize_aggregation_in_order",
    "compile_aggregate_expressions",
    "compile_expressions",
}
FORBIDDEN = "516"  # ClickHouse's number: AUTHENTICATION_FAILED


class Front(BaseHTTPRequestHandler):
    """A request: a form with the statement and its values, or the statement in the URL with rows as the body."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    session: ClassVar[Any]
    folder: ClassVar[Path]
    lock: ClassVar = threading.Lock()
    state: ClassVar[tuple[str, ...]] = ()  # the statements that hold for the next one

    def do_POST(self) -> None:
        """Execute a statement, and send its result or its error."""
        asked = dict(parse_qsl(urlsplit(self.path).query, keep_blank_values=True))
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if boundary := self.headers["Content-Type"].partition("multipart/form-data; boundary=")[2]:
            asked |= fields_of(body, boundary)
            body = b""
        users = dict(line.split() for line in (self.folder / "users").read_text().splitlines())
        user = self.headers["X-ClickHouse-User"]
        if users.get(user) != self.headers["X-ClickHouse-Key"]:
            self.answer(403, b"Authentication failed", FORBIDDEN)
            return
        values = {name.removeprefix("param_"): value for name, value in asked.items() if name.startswith("param_")}
        settings = [f"{name} = {value}" for name, value in asked.items() if name in SETTINGS]
        statement = f"{asked['query']}\n{body.decode()}"
        with self.lock:
            try:
                for one in (f"USE {asked['database']}", "SET " + ", ".join(settings)):
                    if one not in Front.state:
                        self.session.query(one)
                        Front.state = (*(kept for kept in Front.state if kept[:3] != one[:3]), one)
                found = self.session.query(statement, params=values)
                self.answer(200, found.bytes() if found is not None else b"")
            except RuntimeError as error:
                code = re.search(r"Code: (\d+)", str(error))
                self.answer(500, str(error).encode(), code[1] if code else "")

    def answer(self, status: int, content: bytes, code: str = "") -> None:
        """Send a reply."""
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        if code:
            self.send_header("X-ClickHouse-Exception-Code", code)
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        """Log nothing."""


def fields_of(form: bytes, boundary: str) -> dict[str, str]:
    """Return the fields of a form."""
    found = {}
    for part in form.split(f"--{boundary}".encode())[1:-1]:
        head, _, value = part.partition(b"\r\n\r\n")
        found[head.decode().split('"')[1]] = value.removesuffix(b"\r\n").decode()
    return found


def main(port: str, folder: str) -> None:
    """Serve until the process is ended."""
    sys.path.insert(0, str(ROOT))
    from chdb import session  # noqa: PLC0415 - it takes a second

    Front.folder = Path(folder)
    Front.session = session.Session(str(Front.folder / "data"))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(Front.folder / "certificate.pem", Front.folder / "key.pem")
    server = ThreadingHTTPServer(("127.0.0.1", int(port)), Front)
    server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    print("ready", flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main(*sys.argv[1:])
