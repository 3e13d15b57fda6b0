"""The page over TLS, and behind a proxy: other addresses than loopback, with names of their own.

Tests of dnstrail_web.server.
"""

from __future__ import annotations

import http.client
import ssl
from contextlib import closing

from live.certificate import make_certificate
from live.processes import run_dir
from live.web_page import web_page


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


def test_a_proxy_serves_other_addresses():
    """Behind a proxy the page is served without TLS at every address, under the names that are given alone."""
    with (
        run_dir() as folder,
        web_page(folder, "--behind-proxy", "--host", "a.example", "--listen", "0.0.0.0:0") as page,
    ):
        assert page.request("GET", "/", Host="a.example")[0] == 200
        assert page.request("GET", "/", Host="b.example")[0] == 421
