"""An HTTPS server that answers as the API server of Kubernetes is documented to; no API server was at hand."""

from __future__ import annotations

import json
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from socketserver import ThreadingTCPServer
from typing import Any

from live.certificate import make_certificate

Reply = dict[str, Any] | bytes | Callable[[Any], None]
PODS = "/api/v1/namespaces/shop/pods/"
REPLICA_SETS = "/apis/apps/v1/namespaces/shop/replicasets/"
JOBS = "/apis/batch/v1/namespaces/shop/jobs/"


def owner(kind: str, name: str, group: str = "apps/v1", **more: object) -> dict[str, Any]:
    """Return a reference to the controller of an object, whose uid is `uid-NAME`."""
    return {"apiVersion": group, "kind": kind, "name": name, "uid": f"uid-{name}", "controller": True, **more}


def owned(name: str, *owners: dict[str, Any]) -> dict[str, Any]:
    """Return an object with the uid `uid-NAME`."""
    references = {"ownerReferences": [*owners]} if owners else {}
    return {"kind": "Any", "metadata": {"name": name, "uid": f"uid-{name}", **references}, "spec": {"nodeName": "n1"}}


class ApiServer(ThreadingTCPServer):
    """A running server: its objects by path, its token, and the paths that were requested."""

    daemon_threads = True

    def __init__(self, folder: Path) -> None:
        self.objects: dict[str, Reply] = {}
        self.asked: list[str] = []
        self.account = folder
        make_certificate(folder, "kubernetes", "127.0.0.1")
        folder.chmod(0o1777)  # as the volume of a kubelet
        for name in ("token", "ca.crt"):
            (folder / name).symlink_to(f"..data/{name}")
        self.set_token("first")
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(folder / "certificate.pem", folder / "key.pem")
        super().__init__(("127.0.0.1", 0), _Handler)

    def set_token(self, token: str) -> None:
        """Accept this token alone; write it and the authority as a kubelet does: another folder replaces the old."""
        self.token, folder, link = token, self.account / f"..{token}", self.account / "..data_tmp"
        folder.mkdir()
        (folder / "token").write_text(token)
        (folder / "ca.crt").write_bytes((self.account / "certificate.pem").read_bytes())
        link.symlink_to(folder.name)
        link.rename(self.account / "..data")

    def get_request(self) -> tuple[Any, Any]:
        """Return a connection whose handshake takes place in the thread of its handler."""
        connection, address = super().get_request()
        connection.settimeout(60)
        return self._context.wrap_socket(connection, server_side=True, do_handshake_on_connect=False), address

    def handle_error(self, *_: object) -> None:
        """Ignore a client that ends a connection."""

    @property
    def variables(self) -> dict[str, str]:
        """The variables by which a probe finds the server."""
        port = str(self.server_address[1])
        return {
            "KUBERNETES_SERVICE_HOST": "127.0.0.1",
            "KUBERNETES_SERVICE_PORT": port,
            "DNSTRAIL_SERVICE_ACCOUNT": str(self.account),
        }


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: ApiServer

    def do_GET(self) -> None:
        self.server.asked.append(self.path)
        if self.headers["Authorization"] != f"Bearer {self.server.token}":
            self.answer(401, b"{}")
            return
        reply = self.server.objects.get(self.path)
        if callable(reply):
            with suppress(OSError):  # the client ends the connection
                reply(self)
        elif reply is None:
            self.answer(404, b'{"kind": "Status", "reason": "NotFound"}')
        else:
            self.answer(200, reply if isinstance(reply, bytes) else json.dumps(reply).encode())

    def answer(self, status: int, body: bytes, **headers: str) -> None:
        """Send a reply with its length."""
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Log nothing."""


@contextmanager
def api_server(folder: Path) -> Iterator[ApiServer]:
    """Run the server; `folder` becomes that of the service account."""
    with ApiServer(folder) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()
