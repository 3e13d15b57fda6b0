"""Who may look: sessions are bounded, expire, and belong to a user; the names of the server."""

from __future__ import annotations

import os
import stat

from dnstrail_web import access as module
from dnstrail_web.access import LONGEST, MOST_SESSIONS, Access, Peer, own_hosts
from live.workers import FakeClock

ALICE, BOB = Peer("127.0.0.1", 1000), Peer("127.0.0.1", 1001)


def let_in(access: Access, peer: Peer = ALICE) -> str:
    """Exchange the present token; return the header with the cookie."""
    header = access.exchange(access.new_link().partition("token=")[2], peer)
    assert header
    return header.partition(";")[0]


def access_in(folder, clock: FakeClock, **options) -> Access:
    return Access(folder, "http://127.0.0.1:1", 1, clock.monotonic, **{"secure": False, **options})


def test_a_cookie_works_for_its_user_and_its_time(tmp_path):
    """A cookie lets in the user who exchanged the token, until it has expired."""
    clock = FakeClock()
    access = access_in(tmp_path, clock)
    cookie = let_in(access)
    assert access.admits(cookie, ALICE)
    assert not access.admits(cookie, BOB)
    assert not access.admits(cookie, Peer("192.0.2.1"))
    assert access.known == {1000}
    clock.advance(LONGEST)
    assert not access.admits(cookie, ALICE)


def test_a_host_is_known_once_its_cookie_was_valid(tmp_path):
    """A host beyond loopback is known from its first valid cookie until this expires; of IPv6 it is the network."""
    clock = FakeClock()
    access = access_in(tmp_path, clock)
    laptop = Peer("2001:db8::1")
    cookie = let_in(access, laptop)
    assert not access.admits("", Peer("192.0.2.1"))
    assert access.known == {Peer("2001:db8::2").origin}
    assert access.admits(cookie, Peer("192.0.2.2"))
    assert access.known == {"192.0.2.2", "2001:db8::/64"}
    clock.advance(LONGEST)
    assert access.known == set()


def test_known_hosts_are_bounded(tmp_path):
    """Of the hosts that send a cookie the last ones are known."""
    access = access_in(tmp_path, FakeClock())
    cookie = let_in(access, Peer("192.0.2.1"))
    for number in range(MOST_SESSIONS + 3):
        assert access.admits(cookie, Peer(f"198.51.100.{number}"))
    assert access.known == {f"198.51.100.{number}" for number in range(3, MOST_SESSIONS + 3)}


def test_a_link_of_another_server_is_left(tmp_path):
    """At its end a server removes its own link alone."""
    one, other = access_in(tmp_path, FakeClock()), access_in(tmp_path, FakeClock())
    one.new_link()
    other.new_link()
    one.close()
    assert (tmp_path / module.LINK).exists()
    other.close()
    assert not (tmp_path / module.LINK).exists()


def test_cookies_of_others_keep_nobody_out(tmp_path):
    """Another port of the host may set cookies of any form, also under this name: the real one counts."""
    access = access_in(tmp_path, FakeClock())
    cookie = let_in(access)
    for others in (f"{access.name}=forged; {{}}", 'a={{"b":"c, d"}}; {}', "{}; ;=; x", f"{{}}; {access.name}="):
        assert access.admits(others.format(cookie), ALICE)


def test_sessions_are_bounded(tmp_path):
    """Beyond the bound the session that was let in first ends."""
    access = access_in(tmp_path, FakeClock())
    cookies = [let_in(access) for _ in range(MOST_SESSIONS + 1)]
    assert [access.admits(cookie, ALICE) for cookie in cookies] == [False] + [True] * MOST_SESSIONS


def test_the_file_of_the_link_is_private_and_replaced(tmp_path, monkeypatch):
    """Only the user can read the file, whatever the umask, and a link that somebody put there is not followed."""
    os.umask(0)
    target = tmp_path / "target"
    target.write_text("precious")
    (tmp_path / "web.link").symlink_to(target)
    (tmp_path / "web.link.lock").symlink_to(target)
    access = access_in(tmp_path, FakeClock())
    link = access.new_link()
    os.umask(0o022)
    path = tmp_path / module.LINK
    assert target.read_text() == "precious"
    assert (path.is_symlink(), stat.S_IMODE(path.stat().st_mode), path.read_text()) == (False, 0o600, f"{link}\n")
    access.close()
    assert not path.exists()


def test_a_cookie_of_tls_is_for_tls_alone(tmp_path):
    """With TLS the cookie is never sent without it."""
    access = access_in(tmp_path, FakeClock(), secure=True)
    assert "; Secure" in str(access.exchange(access.new_link().partition("token=")[2], ALICE))


def test_no_token_is_none(tmp_path):
    """Before a link was made, no token works, the empty one neither."""
    assert access_in(tmp_path, FakeClock()).exchange("", ALICE) is None


def test_the_names_of_a_server():
    """A server is known by its names with and without its port, IPv6 in brackets."""
    assert own_hosts(["localhost", "::1"], 80) == {"localhost", "localhost:80", "[::1]", "[::1]:80"}
