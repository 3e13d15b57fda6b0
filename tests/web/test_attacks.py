"""Attacks on the page of a real process, by strangers of this host, other sites and hostile clients.

Tests of dnstrail_web.app, dnstrail_web.http_connection, dnstrail_web.errors, dnstrail_web.parameters.
"""

from __future__ import annotations

import http.client
import json
import os
import re
import select
import socket
import stat
import subprocess
from contextlib import closing, suppress

import pytest

from dnstrail_web.app import MOST_BODY
from dnstrail_web.feed import MOST_READERS
from dnstrail_web.http_connection import MOST_CONNECTIONS, MOST_STRANGERS, PATIENCE
from dnstrail_web.server import MOST_HEAD
from live.processes import run_dir, wait_until
from live.users import USER
from live.web_page import received, web_page

CLIENTS = int(os.environ.get("DNSTRAIL_SSE_CLIENTS", "500"))  # make test-web: 10,000
MUTE = '{"event":"E","seconds":60}'
PYTHON = "/usr/bin/python3"  # which another user may run
MEMORY = 120  # MiB of the process, whatever is sent


@pytest.fixture(scope="module")
def page():
    with run_dir() as folder, web_page(folder, "--mutes", folder / "web.mutes", "--folder", "none") as found:
        found.enter()
        yield found


def head(line: str, *fields: str, host: str = "{host}", body: str = "") -> str:
    """Return a request, in which a test names the host and the cookie."""
    length = [f"Content-Length: {len(body)}"] if body else []
    return "\r\n".join([line, f"Host: {host}", "Connection: close", *fields, *length, "", body])


IN = "Cookie: {cookie}"
AS_JSON = "Content-Type: application/json"
POST = "POST /api/mutes HTTP/1.1"
SESSION = "GET /api/session HTTP/1.1"
ATTACKS = {
    "no cookie": (head(SESSION), 401),
    "an empty cookie": (head(SESSION, "Cookie: dnstrail-1="), 401),
    "a forged cookie": (head(SESSION, "Cookie: {name}=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"), 401),
    "the cookie of another port": (head(SESSION, "Cookie: dnstrail-1={value}"), 401),
    "a cookie cut short": (head(SESSION, "Cookie: {name}={value:.20}"), 401),
    "a cookie with more behind": (head(SESSION, "Cookie: {name}={value}A"), 401),
    "a cookie that is no cookie": (head(SESSION, 'Cookie: {name}="\\"; =;;;{{}}'), 401),
    "two forged cookies": (head(SESSION, "Cookie: {name}=A; {name}=B"), 401),
    "the token as a header": (head(SESSION, "Authorization: Bearer {token}"), 401),
    "the token at the API": (head("GET /api/session?token={token} HTTP/1.1"), 401),
    "a wrong token": (head("GET /?token=AAAA HTTP/1.1"), 401),
    "an empty token": (head("GET /?token= HTTP/1.1"), 401),
    "two tokens": (head("GET /?token=A&token={token} HTTP/1.1"), 401),
    "a token with more behind": (head("GET /?token={token}A HTTP/1.1"), 401),
    "a token of no text": (head("GET /?token=%FF%00%F0%9F HTTP/1.1"), 401),
    "a used token": (head("GET /?token={used} HTTP/1.1"), 401),
    "rebinding: a name of the attacker": (head(SESSION, IN, host="evil.example"), 421),
    "rebinding: his name with the port": (head(SESSION, IN, host="evil.example:{port}"), 421),
    "rebinding: a page for the same name": (head("GET / HTTP/1.1", host="evil.example:{port}"), 421),
    "rebinding: the token": (head("GET /?token={token} HTTP/1.1", host="evil.example:{port}"), 421),
    "another port": (head(SESSION, IN, host="127.0.0.1:1"), 421),
    "another address": (head(SESSION, IN, host="127.0.0.2:{port}"), 421),
    "a name that begins as ours": (head(SESSION, IN, host="localhost.evil.example"), 421),
    "a name with a user before it": (head(SESSION, IN, host="127.0.0.1:{port}@evil.example"), 421),
    "an empty host": (head(SESSION, IN, host=""), 421),
    "two hosts": (head(SESSION, IN, "Host: evil.example"), 400),
    "no host": ("GET /api/session HTTP/1.1\r\nCookie: {cookie}\r\n\r\n", 400),
    "no host, as HTTP 1.0": ("GET /api/session HTTP/1.0\r\nCookie: {cookie}\r\n\r\n", 421),
    "a forwarded host": (head(SESSION, IN, "X-Forwarded-Host: 127.0.0.1:{port}", host="evil.example"), 421),
    "an absolute address": (head("GET http://evil.example/api/session HTTP/1.1", IN), 404),
    "a proxy": (head("CONNECT evil.example:443 HTTP/1.1", IN), (400, 404, 405)),
    "CSRF: a form": (head(POST, IN, "Content-Type: text/plain", body=MUTE), 400),
    "CSRF: another origin": (head(POST, IN, AS_JSON, "Origin: https://evil.example", body=MUTE), 403),
    "CSRF: no origin": (head(POST, IN, AS_JSON, "Origin: null", body=MUTE), 403),
    "CSRF: another port": (head(POST, IN, AS_JSON, "Origin: http://127.0.0.1:1", body=MUTE), 403),
    "CSRF: another scheme": (head(POST, IN, AS_JSON, "Origin: https://127.0.0.1:{port}", body=MUTE), 403),
    "CSRF: another site": (head(POST, IN, AS_JSON, "Sec-Fetch-Site: cross-site", body=MUTE), 403),
    "CSRF: the same site": (head(POST, IN, AS_JSON, "Sec-Fetch-Site: same-site", body=MUTE), 403),
    "CSRF: without the cookie": (head(POST, AS_JSON, body=MUTE), 401),
    "CSRF: a removal": (head("DELETE /api/mutes/x HTTP/1.1", IN, "Sec-Fetch-Site: cross-site"), 403),
    "CORS: a question before": (head("OPTIONS /api/mutes HTTP/1.1", IN, "Origin: https://evil.example"), 403),
    "a change by GET": (head("GET /api/mutes/x HTTP/1.1", IN), 405),
    "another method": (head("PATCH /api/mutes HTTP/1.1", IN), 405),
    "TRACE": (head("TRACE /api/session HTTP/1.1", IN), 405),
    "path traversal": (head("GET /static/../app.py HTTP/1.1"), 404),
    "path traversal, encoded": (head("GET /static/%2e%2e/app.py HTTP/1.1"), 404),
    "path traversal, with a slash": (head("GET /static/..%2fapp.py HTTP/1.1"), 404),
    "path traversal to the root": (head("GET /static//etc/passwd HTTP/1.1"), 404),
    "path traversal by backslash": (head("GET /static/..%5capp.py HTTP/1.1"), 404),
    "path traversal with a zero": (head("GET /static/index.html%00.png HTTP/1.1"), 404),
    "the code of the page": (head("GET /__main__.py HTTP/1.1"), 404),
    "the API by another spelling": (head("GET //api/session HTTP/1.1"), 404),
    "the API in capitals": (head("GET /API/session HTTP/1.1"), 404),
    "the API behind a dot": (head("GET /./api/session HTTP/1.1"), 404),
    "the API as a static file": (head("GET /static/../api/session HTTP/1.1"), 404),
    "a query of COF without the cookie": (head("GET /query/a.example HTTP/1.1"), 401),
    "the document without the cookie": (head("GET /api/openapi.json HTTP/1.1"), 401),
    "a line break in a parameter": (head("GET /api/get?key=a%0d%0aSet-Cookie:x HTTP/1.1", IN), 503),
    "no text in a parameter": (head("GET /api/get?key=%ff%fe HTTP/1.1", IN), 503),
    "a long key": (head(f"GET /api/get?key={'a' * 2000} HTTP/1.1", IN), 400),
    "a parameter twice": (head("GET /api/get?key=a&key=b HTTP/1.1", IN), 400),
    "an unknown parameter": (head("GET /api/get?key=a&op=dump HTTP/1.1", IN), 400),
    "another operation": (head("GET /api/dump HTTP/1.1", IN), 404),
    "a handler by its name": (head("GET /api/_lookup HTTP/1.1", IN), 404),
    "a huge number": (head(f"GET /api/get?key=a&process={'9' * 5000} HTTP/1.1", IN), 400),
    "a time without end": (head("GET /api/get?key=a&at=inf HTTP/1.1", IN), 400),
    "a pattern without end": (head(f"GET /api/log?name={'*a' * 600} HTTP/1.1", IN), 400),
    "a deep body": (head(POST, IN, AS_JSON, body="[" * 5000), 400),
    "a body of another shape": (head(POST, IN, AS_JSON, body='{"event":["E"],"seconds":60}'), 400),
    "a mute without end": (head(POST, IN, AS_JSON, body='{"event":"E","seconds":1e300}'), 400),
    "a mute for a negative time": (head(POST, IN, AS_JSON, body='{"event":"E","seconds":-1}'), 400),
    "a mute with more fields": (head(POST, IN, AS_JSON, body='{"event":"E","seconds":1,"id":"x"}'), 400),
    "a path in the id of a mute": (head("DELETE /api/mutes/..%2f..%2fweb.link HTTP/1.1", IN), 404),
    "a body of unknown length": (
        head(POST, IN, AS_JSON, "Transfer-Encoding: chunked") + "5\r\nAAAAA\r\n0\r\n\r\n",
        413,
    ),
    "smuggling: two lengths": (head(POST, IN, AS_JSON, "Content-Length: 1", "Content-Length: 2"), 400),
    "smuggling: length and chunks": (head(POST, IN, "Content-Length: 4", "Transfer-Encoding: chunked"), (400, 413)),
    "100 MB announced": (head(POST, IN, AS_JSON, "Content-Length: 100000000"), 413),
    "a length beyond all": (head(POST, IN, AS_JSON, f"Content-Length: {'9' * 19}"), 413),
    "a flood of headers": (head(SESSION, *[f"X-{number}: {'a' * 100}" for number in range(2000)]), 400),
    "a header of a megabyte": (head(SESSION, f"X-A: {'a' * (1 << 20)}"), 400),
    "an address of a megabyte": (head(f"GET /{'a' * (1 << 20)} HTTP/1.1"), 400),
    "no HTTP": ("\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400),
    "HTTP 2": ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", (400, 421)),
    "a WebSocket": (head(SESSION, IN, "Connection: Upgrade", "Upgrade: websocket", host="evil.example"), 421),
    "a feed for another site": (head("GET /api/events HTTP/1.1", IN, host="evil.example"), 421),
    "a feed without the cookie": (head("GET /api/events HTTP/1.1"), 401),
    "a kind of messages that is none": (head("GET /api/events?kinds=..%2f HTTP/1.1", IN), 400),
}


@pytest.mark.parametrize("attack", ATTACKS)
def test_an_attack_is_refused(page, attack):
    """Each attack is refused with its status, and changes nothing; the page goes on."""
    text, expected = ATTACKS[attack]
    before = page.link
    name, value = page.cookie.split("=", 1)
    known = {"name": name, "value": value, "cookie": page.cookie, "host": page.host, "port": page.port}
    used = "m1o59L42olt3WpStPs2AdQey2CmuUg9wX9znnIKYAIg"
    for field, found in {**known, "token": before.partition("token=")[2], "used": used}.items():
        text = text.replace(f"{{{field}}}", str(found))
    text = text.replace("{value:.20}", value[:20])
    reply = page.raw(text.encode("latin-1"))
    assert int(reply.split(None, 2)[1]) in (expected if isinstance(expected, tuple) else (expected,)), reply[:300]
    assert b"access-control-allow-origin" not in reply.lower()
    assert b"root:" not in reply
    assert page.link == before
    assert page.json("/api/mutes") == {"ok": True, "data": []}
    assert page.json("/api/session")["ok"]


def test_a_token_works_once(page):
    """A link lets one browser in; the file then has another one, which only its user can read."""
    link = page.link
    path = f"/?{link.partition('?')[2]}"
    first, headers, _ = page.request("GET", path, cookie="")
    second, _, _ = page.request("GET", path, cookie="")
    assert (first, second) == (303, 401)
    assert {"HttpOnly", "SameSite=Strict"} <= {part.strip() for part in headers["set-cookie"].split(";")}
    assert "token" not in headers["location"]
    assert page.link != link
    assert stat.S_IMODE((page.run_dir / "web.link").stat().st_mode) == 0o600


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_a_stolen_cookie_is_useless_for_another_user(page):
    """A browser sends the cookie to each port of the host: another user who serves one is not let in by it."""
    program = (
        "import encodings.idna, socket, sys\n"
        "one = socket.create_connection(('127.0.0.1', int(sys.argv[1])))\n"
        "one.sendall(sys.argv[2].encode())\n"
        "print(one.recv(4096).decode())"
    )
    request = head(SESSION, IN, "Connection: close").replace("{host}", page.host).replace("{cookie}", page.cookie)
    command = [PYTHON, "-ISc", program, str(page.port), request]
    for user, status in ((None, "200"), (USER, "401")):
        done = subprocess.run(command, capture_output=True, text=True, check=True, user=user, timeout=60)
        assert done.stdout.split()[1] == status


def test_a_body_of_100_megabytes_is_not_read(page):
    """The server closes the connection of a long body, and holds none of it."""
    text = head(POST, IN, AS_JSON, "Content-Length: 100000000").replace("{host}", page.host)
    chunk = b"a" * (1 << 20)
    reply = page.raw(text.replace("{cookie}", page.cookie).encode(), *[chunk] * 100)
    assert reply == b"" or b" 413 " in reply
    assert page.memory < MEMORY


def test_a_body_within_the_bound_is_read(page):
    """A body of the longest length is read, and refused for its contents alone."""
    body = b'"' + b"a" * (MOST_BODY - 2) + b'"'
    status, _, found = page.request("POST", "/api/mutes", body, Content_Type="application/json")
    assert (status, json.loads(found)["error"]) == (400, "bad_request")


def test_a_head_within_the_bound_is_read(page):
    """A head that is nearly as long as the bound is read."""
    assert page.request("GET", "/", X_A="a" * (MOST_HEAD - 1000))[0] == 200


def test_many_readers_of_the_feed_are_bounded(page):
    """Of many readers of the feed at once, those beyond the bound are refused; the page answers meanwhile."""
    readers = []
    try:
        statuses = []
        for _ in range(MOST_READERS + 5):
            readers.append(page.feed())
            statuses.append(readers[-1].status)
        assert statuses == [200] * MOST_READERS + [503] * 5
        assert page.json("/api/session")["ok"]
    finally:
        for reader in readers:
            reader.close()
    wait_until(lambda: _status_of_feed(page) == 200, "the readers have left")


def test_thousands_of_strangers_are_kept_out(page):
    """Thousands of connections without a cookie are refused or closed; the memory stays bounded, the page answers."""
    statuses: dict[int, int] = {}
    text = head("GET /api/events HTTP/1.1").replace("{host}", page.host).encode()
    held = []
    for _ in range(CLIENTS):
        try:
            connection = page.connect()
            connection.sendall(text)
            held.append(connection)
        except OSError:
            statuses[0] = statuses.get(0, 0) + 1
        if len(held) >= 100:
            _finish(held, statuses)
    _finish(held, statuses)
    assert set(statuses) <= {0, 401}
    assert page.json("/api/session")["ok"]
    assert page.memory < MEMORY


def test_slow_requests_are_closed(page):
    """Connections that send their request slowly, or none, are closed after a time; another user still comes in."""
    slow = [page.connect() for _ in range(20)]
    for connection in slow:
        connection.sendall(b"GET / HTTP/1.1\r\nHost: ")
    body = page.connect()
    body.sendall(f"{POST}\r\nHost: {page.host}\r\nCookie: {page.cookie}\r\nContent-Type: application/json\r\n".encode())
    body.sendall(b"Content-Length: 100\r\n\r\n{")
    for connection in (*slow, body):
        connection.settimeout(PATIENCE * 6)
        assert received(connection) == b""
        connection.close()
    assert page.json("/api/session")["ok"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_a_stranger_who_holds_connections_keeps_nobody_out(page):
    """Another user who holds all connections that strangers may have does not keep out who was let in."""
    program = (
        "import encodings.idna, select, socket, sys\n"
        "held = [socket.create_connection(('127.0.0.1', int(sys.argv[1]))) for _ in range(int(sys.argv[2]))]\n"
        "while len(select.select(held, [], [], 1)[0]) < 30: pass\n"  # those beyond the bound are closed
        "print('held', flush=True)\n"
        "sys.stdin.read()"
    )
    command = [PYTHON, "-ISc", program, str(page.port), str(MOST_STRANGERS + 30)]
    with subprocess.Popen(command, user=USER, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as stranger:
        assert stranger.stdout
        assert stranger.stdout.readline() == "held\n"
        for _ in range(10):
            assert page.json("/api/session")["ok"]
        stranger.communicate("")


def test_connections_are_bounded(page):
    """Of the connections of one who was let in, those beyond the bound are closed."""
    held = [page.connect() for _ in range(MOST_CONNECTIONS + 20)]
    try:
        wait_until(lambda: len(select.select(held, [], [], 0)[0]) >= 20, "those beyond the bound")
    finally:
        for connection in held:
            connection.close()
    wait_until(lambda: _status_of_feed(page) == 200, "room")


def test_the_headers_of_a_reply_forbid_what_the_page_does_not_need(page):
    """Each reply forbids scripts from elsewhere, frames, sniffing, and storing what it holds."""
    for path in ("/", "/api/session", "/nothing", "/static/index.html"):
        _, headers, _ = page.request("GET", path)
        assert "default-src 'self'" in headers["content-security-policy"]
        assert "unsafe" not in headers["content-security-policy"]
        assert (headers["x-content-type-options"], headers["referrer-policy"]) == ("nosniff", "no-referrer")
    assert page.request("GET", "/api/session")[1]["cache-control"] == "no-store"
    assert "server" not in headers


def test_errors_are_those_of_the_wire(page):
    """Each refusal is JSON with an error, as the cache replies one."""
    for path in ("/api/get?key=a", "/api/nothing", "/api/trail", "/api/log"):
        reply = page.json(path)
        assert reply["ok"] is False
        assert re.fullmatch("[a-z_]+", reply["error"])
        assert reply["message"]


def _finish(held: list[socket.socket], statuses: dict[int, int]) -> None:
    """Read the statuses of some connections, and close them."""
    for connection in held:
        with closing(connection):
            found = b""
            with suppress(OSError):
                found = connection.recv(64)
            status = int(found.split()[1]) if found else 0
            statuses[status] = statuses.get(status, 0) + 1
    held.clear()


def _status_of_feed(page) -> int:
    with suppress(http.client.HTTPException, OSError):
        reader = page.feed()
        reader.close()
        return reader.status
    return 0
