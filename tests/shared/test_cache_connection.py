"""Clients that are shared, by the children of a fork and by threads, and those of impossible numbers."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from functools import partial

import msgpack
import pytest

from dnstrail.bus.ipc import lookups_address
from dnstrail.client import DnsDataSource, LookupClient, lookups_after
from dnstrail.errors import LookupRefused, Unavailable
from dnstrail.protocol.lookups import ConnectionTo
from live.workers import BOUND, answering, short_folder, wait_until

A_COM = {"ip_addresses": ["192.0.2.1"], "dns_queries": ["a.com"], "dns_root": "a.com"}
ANSWERED = msgpack.packb({"v": 1, "ok": True, "data": A_COM})


@pytest.fixture
def address():
    """Yield the address of a server that answers each key but "silent"."""
    with short_folder() as folder:
        address = lookups_address(folder)
        with answering(address, lambda body: None if msgpack.unpackb(body).get("key") == "silent" else ANSWERED):
            yield address


def run(program, *arguments):
    """Run a program of a user in a process of its own; return what it printed."""
    command = [sys.executable, "-c", BEGIN + program, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=BOUND, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


BEGIN = """
import multiprocessing, os, signal, sys, threading, time
from dnstrail.bus import ZmqBus
from dnstrail.client import DnsDataSource
from dnstrail.errors import Unavailable

def look_up(source, key="a.com"):
    try:
        print(source.get(key)["dns_root"], flush=True)
    except Unavailable as error:
        print(error.reason, flush=True)

def fork(child):
    process = os.fork()
    if not process:
        signal.alarm(10)  # seconds: a child that never ends is killed
        child()
        sys.exit()
    print(os.waitpid(process, 0)[1], flush=True)
"""

FORK = """
source = DnsDataSource(sys.argv[1], timeout=5)
look_up(source)

def child():
    look_up(source)
    {}

fork(child)
look_up(source)
"""


@pytest.mark.parametrize("ending", ["sys.exit()", "os._exit(0)", "source.close()", "fork(lambda: look_up(source))"])
def test_the_child_of_a_fork_looks_up(address, ending):
    """A client that was made before a fork answers in the child, which ends, and in the parent afterwards."""
    printed = run(FORK.format(ending), address)
    assert printed == ["a.com", "a.com", *(["a.com", "0"] if "fork" in ending else []), "0", "a.com"]


def test_a_child_that_closes_the_client_closes_that_of_no_parent(address):
    """A child closes its own connection, also where it has none: the parent keeps the one that it had."""
    program = """
source = DnsDataSource(sys.argv[1], timeout=5)
look_up(source)
fork(source.close)
look_up(source)
"""
    assert run(program, address) == ["a.com", "0", "a.com"]


def test_a_pool_of_processes_looks_up(address):
    """The processes of a pool share a client that their parent has used."""
    program = """
source = DnsDataSource(sys.argv[1], timeout=5)

def root_of(key):
    return source.get(key)["dns_root"]

look_up(source)
with multiprocessing.get_context("fork").Pool(2, signal.alarm, [10]) as pool:
    print(*pool.map_async(root_of, ["a.com"] * 4).get(8))
"""
    assert run(program, address) == ["a.com"] * 5


def test_a_fork_during_a_request_of_another_thread_stops_no_child(address):
    """A child waits for no request of a thread of its parent, which does not exist in the child."""
    program = """
source = DnsDataSource(sys.argv[1], timeout=4)
look_up(source)
thread = threading.Thread(target=look_up, args=[source, "silent"])
thread.start()
time.sleep(1)  # the thread waits for its reply
fork(lambda: look_up(source))
thread.join()
"""
    assert run(program, address) == ["a.com", "a.com", "0", "timeout"]


def test_a_given_bus_is_of_its_process_alone(address):
    """A client with a given bus is unavailable in the child of a fork, and answers in the parent."""
    program = """
source = DnsDataSource(sys.argv[1], timeout=5, bus=ZmqBus())
look_up(source)

def child():
    look_up(source)
    source.close()

fork(child)
look_up(source)
"""
    assert run(program, address) == ["a.com", "forked", "0", "a.com"]


def test_a_client_that_is_closed_during_requests_ends_them(address):
    """A request that runs when another thread closes the client ends first; each later one raises Unavailable."""
    program = """
def look_up_until_closed():
    try:
        while True:
            source.get("a.com")
    except Unavailable as error:
        raised.append(error.remedy)

raised = []
for _ in range(5):
    source = DnsDataSource(sys.argv[1], timeout=5)
    threads = [threading.Thread(target=look_up_until_closed) for _ in range(3)]
    for thread in threads:
        thread.start()
    time.sleep(0.05)
    source.close()
    for thread in threads:
        thread.join()
print(raised == ["this client was closed"] * 15)
"""
    assert run(program, address) == ["True"]


@pytest.mark.parametrize("close", ["source.close()", "look_up(source); source.close(); source.close()"])
def test_a_closed_client_is_unavailable(address, close):
    """A client that was closed makes no connection again, neither here nor in the child of a fork."""
    program = f"""
source = DnsDataSource(sys.argv[1], timeout=5)
{close}
look_up(source)
fork(lambda: look_up(source))
print(source.client.reply())
"""
    first = ["a.com"] if "look_up" in close else []
    assert run(program, address) == [*first, "closed", "closed", "0", "None"]


class FakeRequester:
    """A requester of a test: it calls a function in place of each request."""

    remote = None

    def __init__(self, act):
        self._act = act
        self.closed = False

    def request(self, _body, timeout):
        """Return the reply of the function."""
        reply = self._act(timeout)
        assert not self.closed
        return reply

    def close(self):
        """Note the end."""
        self.closed = True


class FakeBus:
    """A bus whose requesters call a function of a test."""

    def __init__(self, act):
        self.made = FakeRequester(act)

    def requester(self, _address):
        """Return the requester."""
        return self.made


def test_a_signal_handler_may_close_the_client(address):
    """A close within a request of the same thread waits for it no longer than `timeout`; its end closes."""

    def act(_timeout):
        client.close()
        return ANSWERED

    bus = FakeBus(act)
    client = LookupClient(address, timeout=0.05, bus=bus)
    assert client.request("get", key="a.com")["data"] == A_COM
    assert bus.made.closed


def test_threads_that_share_a_client_wait_no_longer_than_its_timeout(address):
    """Each request ends within `timeout`, however many threads wait for a cache that does not answer."""
    waited, timeout = [], 0.5

    def look_up():
        began = time.monotonic()
        with pytest.raises(Unavailable) as caught:
            client.request("get", key="a.com")
        waited.append((time.monotonic() - began, caught.value.reason))

    client = LookupClient(address, timeout=timeout, bus=FakeBus(time.sleep))
    threads = [threading.Thread(target=look_up) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(BOUND)
    assert [reason for _, reason in waited] == ["timeout"] * len(threads)
    assert max(seconds for seconds, _ in waited) < len(threads) / 2 * timeout  # the last of a row waits twice as long


def test_a_thread_that_has_waited_has_the_rest_of_the_time(address):
    """A request that waits for that of another thread waits for its own reply so much less."""
    asked, second_asks = [], threading.Event()

    def act(timeout):
        asked.append(timeout)
        second_asks.wait(BOUND)
        time.sleep(1)  # the second thread waits now
        return ANSWERED

    client = LookupClient(address, timeout=BOUND, bus=FakeBus(act))
    thread = threading.Thread(target=client.request, args=["version"])
    thread.start()
    wait_until(lambda: asked)
    second_asks.set()
    client.request("version")
    thread.join(BOUND)
    assert 0 < asked[1] < asked[0] == BOUND / 2


@pytest.mark.parametrize("ask", ["request", "send", "reply"])
def test_a_signal_handler_that_looks_up_ends(address, ask):
    """A lookup within a request of the same thread, as by a signal handler, is unavailable after `timeout`."""

    def act(_timeout):
        with pytest.raises(Unavailable, match="other requests by this client took all of its time"):
            getattr(client, ask)(*[] if ask == "reply" else ["version"])
        return ANSWERED

    client = LookupClient(address, timeout=0.05, bus=FakeBus(act))
    assert client.request("version")["data"] == A_COM


@pytest.mark.parametrize("number", [1 << 64, -(1 << 63) - 1, 10**400], ids=["64 bits", "-64 bits", "many digits"])
def test_a_number_that_no_request_can_hold_is_refused(address, number):
    """A number beyond 64 bits is refused as a bad request, in each operation that takes one, and sends nothing."""
    source = DnsDataSource(address, bus=FakeBus(lambda _timeout: pytest.fail("a request was sent")))
    refused = partial(pytest.raises, LookupRefused, match="^bad_request: a number has more than 64 bits$")
    for times in ({"at": number}, {"at_ns": number}, {"after": [("start", number)]}):
        with refused():
            source.get("a.com", **times)
        with refused():
            source.get_many(["a.com"], **times)
    with refused(), lookups_after(event=("start", number)):
        source.get("a.com")
    with refused():
        source.rank([ConnectionTo(address="192.0.2.1", process=number)])
    with refused():
        source.client.send("get", key="a.com", at=number)


@pytest.mark.parametrize("timeout", [-0.002, -1, float("nan"), float("inf"), 1e10])
@pytest.mark.parametrize("made", [DnsDataSource, LookupClient])
def test_an_impossible_timeout_is_an_error(address, made, timeout):
    """A timeout is a number of seconds from 0 to a million: ZeroMQ would fail at others, or wait for ever."""
    with pytest.raises(ValueError, match="is no number of seconds from 0 to 1,000,000"):
        made(address, timeout=timeout)


@pytest.mark.parametrize("timeout", [0, 0.0005, 1e6])
def test_a_possible_timeout_is_accepted(address, timeout):
    """The least and the largest timeout are accepted. A request without any time is unavailable at once."""
    source = DnsDataSource(address, timeout=timeout)
    if timeout < 1:
        with pytest.raises(Unavailable):
            source.get("silent")
    else:
        assert source.get("a.com") == A_COM
    source.close()
