"""The fleet as the page shows it: the same as the commands, bounded while the store is away, and closed to attacks.

Tests of dnstrail_web.lookups, dnstrail_web.api, dnstrail_web.errors.
"""

from __future__ import annotations

import asyncio
import json
import socket
import threading
import time
from collections import Counter
from contextlib import closing, nullcontext
from functools import partial
from types import SimpleNamespace
from urllib.parse import quote

import pytest

from builders.fleet import entry, row
from dnstrail.bus import ZmqBus
from dnstrail.bus.ipc import fleet_address, lookups_address
from dnstrail.client import LookupClient
from dnstrail.process.clock import SystemClock
from dnstrail.protocol.lookup_thread import LookupThread
from dnstrail.protocol.lookups import encode_data
from dnstrail_web.errors import ApiError
from dnstrail_web.lookups import MOST_LOOKUPS, PageLookups
from live.fleet_store import answering_store
from live.processes import PATIENCE, dnstrail, run_dir, wait_until
from live.web_page import web_page

CLOCK = SystemClock()


@pytest.fixture(scope="module")
def fleet(tmp_path_factory):
    """Run a page that asks a store with three hosts, one of which is behind."""
    with run_dir() as run, answering_store(tmp_path_factory.mktemp("store"), run) as store:
        now = int(time.time())
        later = now + 3600  # no host is silent while the tests run
        store.write(entry("web1", row(at=now), sent=later), entry("lab", row(target="10.0.0.7", at=now), sent=later))
        store.write(entry("web2", row(at=now), sent=later, behind=3, dropped=2), form=5)
        with web_page(run, "--folder", "none", "--store", store.address) as page:
            page.enter()
            yield SimpleNamespace(page=page, store=store, run=run)


def until(do, is_over):
    """Return what a function returns once it is over: on a busy host a lookup may end before its reply comes."""
    found: list = []
    wait_until(lambda: found.append(do()) or is_over(found[-1]), "a reply in time")
    return found[-1]


def reply_of(fleet, path):
    """Return the reply to a GET."""
    return until(lambda: fleet.page.request("GET", f"/api/fleet/{path}"), lambda reply: reply[0] != 503)


def printed_by(fleet, *words):
    """Return what a command prints."""
    command = ("fleet", *words, "--json", "--run-dir", fleet.run)
    return json.loads(until(lambda: dnstrail(*command), lambda done: done.returncode != 3).stdout)


def test_lookups_of_the_fleet_are_those_of_the_commands(fleet):
    """The data of a reply is what the command prints, also for one host; the command states who answered, too."""
    for path, words in (
        ("hosts", ("hosts",)),
        ("get?key=SHOP.example.", ("get", "shop.example")),
        ("get?key=10.0.0.7&host=lab", ("get", "10.0.0.7", "--host", "lab")),
    ):
        reply, printed = json.loads(reply_of(fleet, path)[2]), printed_by(fleet, *words)
        flags = {name: reply[name] for name in ("complete", "history") if name in reply}
        assert {**reply["data"], **flags} == {name: printed[name] for name in printed.keys() - {"found", "answered_by"}}
        assert printed["behind"] == ["web2"]
    assert fleet.page.json("/api/session")["data"]["fleet"]


def test_an_unknown_key_is_the_error_of_the_wire(fleet):
    """A key that no host knows is `data_not_found`; the reply states that a host is behind."""
    status, _, body = reply_of(fleet, "get?key=other.example")
    error = json.loads(body)
    assert (status, error["error"], error["complete"]) == (404, "data_not_found", False)


def test_a_store_that_is_away_stops_nothing_else(fleet):
    """Without the store, its routes state so without a path of the host; others answer; it is found again."""
    fleet.store.stop()
    try:
        for path in ("hosts", "get?key=shop.example"):
            status, _, body = fleet.page.request("GET", f"/api/fleet/{path}")
            assert (status, json.loads(body)["message"]) == (503, "no store of the fleet answers")
            assert str(fleet.run) not in body.decode()
        assert fleet.page.json("/api/session")["ok"]
    finally:
        fleet.store.start()
    assert json.loads(reply_of(fleet, "hosts")[2])["ok"]


def test_lookups_at_a_server_that_hangs_are_bounded():
    """A server that accepts and never answers holds so many lookups; further ones are refused, and all of them end."""
    with run_dir() as run, socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(run / "fleet.sock"))
        listener.listen()
        with closing(LookupClient(f"ipc://{run}/fleet.sock", timeout=0.2)) as client:
            lookups = PageLookups(client, CLOCK, "store")

            async def ask_all():
                return await asyncio.gather(
                    *(lookups.ask("hosts", {}) for _ in range(MOST_LOOKUPS + 9)), return_exceptions=True
                )

            found = asyncio.run(ask_all())
    assert {type(one) for one in found} == {ApiError}
    assert Counter(one.code for one in found) == {"overloaded": 9, "unavailable": MOST_LOOKUPS}


class HeldServer(LookupThread[None]):
    """A server that answers once it may: `asked` and `may_answer` are set meanwhile."""

    def __init__(self, address: str) -> None:
        self.asked, self.may_answer = threading.Event(), threading.Event()
        super().__init__(partial(ZmqBus, None), address, "held")

    def _open(self):
        return nullcontext()

    def _answer(self, served, source):
        self.asked.set()
        self.may_answer.wait(PATIENCE)
        served.reply(encode_data({"hosts": []}))


def test_a_store_that_hangs_delays_no_lookup_at_the_cache():
    """While the store keeps a lookup waiting, one at the cache ends, and then the store is heard."""
    with (
        run_dir() as run,
        closing(HeldServer(address := fleet_address(run))) as held,
        closing(LookupClient(address, timeout=2 * PATIENCE)) as store,
        closing(LookupClient(lookups_address(run))) as cache,
    ):
        at_store, at_cache = (PageLookups(*each) for each in ((store, CLOCK, "store"), (cache, CLOCK, "cache")))

        async def ask_both():
            waiting = asyncio.create_task(at_store.ask("hosts", {}))
            await asyncio.to_thread(held.asked.wait, PATIENCE)
            with pytest.raises(ApiError, match="no cache answers"):
                await at_cache.ask("get", {"key": "shop.example"})
            is_waiting = not waiting.done()
            held.may_answer.set()
            return is_waiting, await waiting

        is_waiting, reply = asyncio.run(ask_both())
    assert (is_waiting, reply["data"]) == (True, {"hosts": []})


ATTACKS = {
    "hosts?limit=9": 400,
    "hosts?key=a": 400,
    "get": 400,
    "get?key=": 400,
    f"get?key={'a' * 1025}": 400,
    "get?key=a&key=b": 400,
    "get?key=a&op=claim": 400,
    "get?key=a&signature=s&subject=t&event=e": 400,
    "get?key=a&at=inf": 400,
    "get?key=a&before=x": 400,
    f"get?key=a&host={'h' * 257}": 400,
    "get?key=%00%01%ff": 404,
    f"get?key={quote(chr(39))})%3b+DROP+TABLE+rows%3b--": 404,
    "get?key=shop.example&host=%3Cimg+src%3Dx%3E": 404,
    "get?key=shop.example&at=99999999999999999999": 404,
    "claim?signature=s&subject=t&event=e": 404,
    "first?name=shop.example": 404,
    "trail?key=shop.example": 404,
    "hosts/": 404,
    "..%2fhosts": 404,
}


@pytest.mark.parametrize("attack", ATTACKS)
def test_an_attack_on_the_fleet_is_refused(fleet, attack):
    """Each attack is refused with its status in JSON, and the store goes on; without the cookie nothing is said."""
    status, headers, body = reply_of(fleet, attack)
    assert (status, json.loads(body)["ok"], headers["content-type"]) == (ATTACKS[attack], False, "application/json")
    assert fleet.page.request("GET", f"/api/fleet/{attack}", cookie="none=none")[0] == 401
    assert len(json.loads(reply_of(fleet, "hosts")[2])["data"]["hosts"]) == 3


@pytest.mark.parametrize("method", ["POST", "DELETE", "PUT"])
def test_nothing_of_the_fleet_can_be_changed(fleet, method):
    """The page only reads the store."""
    for path in ("hosts", "get?key=a"):
        assert fleet.page.request(method, f"/api/fleet/{path}")[0] == 405
