"""The page over TLS, and behind a proxy: other addresses than loopback, with names of their own.

Tests of dnstrail_web.server.
"""

from __future__ import annotations

import http.client
import os
import ssl
import subprocess
from contextlib import closing

import pytest

from dnstrail_web.http_connection import MOST_CONNECTIONS, MOST_OF_STRANGER, MOST_STRANGERS
from live.certificate import make_certificate
from live.ports import free_port
from live.processes import dnstrail, run_dir
from live.web_page import web_page

PYTHON = "/usr/bin/python3"  # which runs before the modules of this project are known


def test_tls_serves_other_addresses(tmp_path):
    """With a certificate the page is served at every address, under the names that are given, and never without TLS."""
    make_certificate(tmp_path, "page.example", "127.0.0.1")
    tls = "--tls-cert", tmp_path / "certificate.pem", "--tls-key", tmp_path / "key.pem"
    with run_dir() as folder, web_page(folder, *tls, "--host", "page.example", "--listen", "0.0.0.0:0") as page:
        assert page.link.startswith(f"https://page.example:{page.port}/?token=")
        context = ssl.create_default_context(cafile=str(tmp_path / "certificate.pem"))
        with closing(http.client.HTTPSConnection("127.0.0.1", page.port, context=context, timeout=60)) as connection:
            for host, status in ((f"page.example:{page.port}", 303), ("evil.example", 421)):
                connection.request("GET", f"/?token={page.link.partition('token=')[2]}", headers={"Host": host})
                reply = connection.getresponse()
                reply.read()
                assert reply.status == status
                assert status != 303 or "; Secure" in str(reply.headers["set-cookie"])
        assert b"HTTP/1.1 200" not in page.raw(b"GET / HTTP/1.1\r\nHost: page.example\r\n\r\n")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become other users")
def test_connections_without_a_handshake_keep_nobody_out(tmp_path):
    """Many users who begin no handshake hold few connections, for a bounded time, and an admitted user comes in."""
    make_certificate(tmp_path, "page.example", "127.0.0.1")
    tls = "--tls-cert", tmp_path / "certificate.pem", "--tls-key", tmp_path / "key.pem"
    users = MOST_STRANGERS // MOST_OF_STRANGER + 2
    program = (
        "import encodings.idna, os, select, socket, sys\n"
        "port, users, each, least = map(int, sys.argv[1:])\n"
        "held = []\n"
        "for user in range(70001, 70001 + users):\n"
        "    os.seteuid(user)\n"
        "    held += [socket.create_connection(('127.0.0.1', port)) for _ in range(each)]\n"
        "    os.seteuid(0)\n"
        "while len(select.select(held, [], [], 1)[0]) < least: pass\n"  # those beyond the bound are closed
        "print('held', flush=True)\n"
        "while len(select.select(held, [], [], 1)[0]) < len(held): pass\n"
        "print('closed', flush=True)\n"
    )
    context = ssl.create_default_context(cafile=str(tmp_path / "certificate.pem"))
    with run_dir() as folder, web_page(folder, *tls, "--host", "page.example") as page:
        each = MOST_CONNECTIONS // users + 1

        def ask(path: str) -> int:
            with closing(http.client.HTTPSConnection("127.0.0.1", page.port, context=context, timeout=60)) as one:
                one.request("GET", path)
                return one.getresponse().status

        assert ask(f"/?token={page.link.partition('token=')[2]}") == 303
        least = str(users * each - MOST_STRANGERS)
        command = [PYTHON, "-ISc", program, str(page.port), str(users), str(each), least]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as strangers:
            assert strangers.stdout
            assert strangers.stdout.readline() == "held\n"
            for _ in range(10):
                assert ask("/") == 200
            assert strangers.stdout.readline() == "closed\n"


@pytest.mark.parametrize(
    ("origin", "host", "secure"),
    [("https://DNS.example:443/", "dns.example", True), ("http://127.0.0.1:9000", "127.0.0.1:9000", False)],
)
def test_a_proxy_serves_other_addresses(origin, host, secure):
    """Behind a proxy the page has the origin of the proxy: in its link, for its cookie, and for what browsers send."""
    listen = f"0.0.0.0:{free_port('0.0.0.0')}"
    with (
        run_dir() as folder,
        web_page(folder, "--behind-proxy", origin, "--listen", listen, "--mutes", folder / "web.mutes") as page,
    ):
        link, path = page.link, f"/?{page.link.partition('?')[2]}"
        assert page.request("GET", "/", Host="b.example")[0] == 421
        status, headers, _ = page.request("GET", path, Host=host)
        assert (status, "; Secure" in headers["set-cookie"]) == (303, secure)
        page.cookie = headers["set-cookie"].partition(";")[0]
        own, _, _ = link.partition("/?")
        assert own == f"{'https' if secure else 'http'}://{host}"
        mute = {"event": "E", "seconds": 60, "argument": "port", "value": 443}
        status, reply = page.send("POST", "/api/mutes", mute, Host=host, Origin=own)
        assert (status, reply["data"]["argument"], reply["data"]["value"]) == (201, "port", "443")
        for other in ("https://evil.example", f"https://evil.{host}", "http://dns.example"):
            assert page.send("POST", "/api/mutes", mute, Host=host, Origin=other)[0] == 403


@pytest.mark.parametrize(
    "origin",
    [
        "",
        "dns.example",
        "http://dns.example",
        "https://a@dns.example",
        "https://dns.example/x",
        "ftp://x",
        "https://x:y",
    ],
)
def test_an_origin_of_a_proxy_is_one(origin):
    """What is no origin is refused, likewise one without TLS beyond loopback."""
    done = dnstrail("web", "--behind-proxy", origin)
    assert (done.returncode, "--behind-proxy" in done.stderr) == (2, True)
