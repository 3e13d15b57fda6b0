from __future__ import annotations

import struct
from collections import Counter
from ipaddress import ip_address
from pathlib import Path

import dns.message
import pytest

from builders.dns_builders import response_to
from dnstrail.captured import Captured
from dnstrail.events import NET_PACKET_DNS
from dnstrail_probe.ebpf import records
from dnstrail_probe.ebpf.getaddrinfo import calls as getaddrinfo
from dnstrail_probe.ebpf.getaddrinfo.calls import GetaddrinfoCalls

BEGAN, RETURNED, PID = 1000, 2000, 70
ENTRIES = 64


class Unlinked:
    """Programs in whose place nothing is watched."""

    def watch_getaddrinfo(self, _file: int, _offset: int) -> tuple[int, ...]:
        return ()


@pytest.fixture
def calls(monkeypatch):
    """What calls tell, without a kernel."""
    monkeypatch.setattr("dnstrail_probe.ebpf.getaddrinfo.library_finder.keep_capabilities", lambda *_: None)
    counters: Counter[str] = Counter()
    watching = GetaddrinfoCalls(Unlinked(), counters, ())
    watching.counted = counters
    yield watching
    watching.close()


def record(name: bytes, *addresses: str, error: int = 0, more: int = 0) -> bytes:
    """A record as the program writes it."""
    head = struct.pack("<QII2QIIiII4x16s256s", RETURNED, 10, PID, 9, BEGAN, 71, 1000, error, 0, more, b"app", name)
    entries = b"".join(_entry(address) for address in addresses)
    return head + entries.ljust(ENTRIES * 20, b"\0")


def _entry(address: str) -> bytes:
    packed = ip_address(address).packed
    return (2 if len(packed) == 4 else 10).to_bytes(4, "little") + packed.ljust(16, b"\xee")


def packet(stamp: int, pid: int = PID) -> records.PacketRecord:
    """The head of a packet that reached a process."""
    return records.PacketRecord._make([0] * len(records.PacketRecord._fields))._replace(ts=stamp, pid=pid)


def names(payloads: list[bytes]) -> list[str]:
    """What messages are about."""
    return [dns.message.from_wire(payload).question[0].to_text() for payload in payloads]


def test_a_record_has_the_size_of_its_struct():
    """The head and the entries are as long as the program says."""
    source = (Path(records.__file__).parent / "programs" / "getaddrinfo.bpf.c").read_text()
    assert f"#define ANSWERS {ENTRIES}" in source
    assert len(record(b"a.test")) == 328 + ENTRIES * 20


def test_a_call_is_told(calls):
    """Name, addresses and outcome of a call become a response, each address once; who called stands in its head."""
    call, how, payloads = calls.told(record(b"WWW.a.test", "192.0.2.1", "192.0.2.1", "192.0.2.1", "2001:db8::1"))
    assert how == "success"
    assert names(payloads) == ["www.a.test. IN A", "www.a.test. IN AAAA"]
    assert [len(dns.message.from_wire(payload).answer[0]) for payload in payloads] == [1, 1]
    assert (call.pid, call.tid, call.uid, call.cgroup, call.ts, call.noted) == (PID, 71, 1000, 9, RETURNED, RETURNED)
    assert records.text(call.comm) == "app"


@pytest.mark.parametrize(
    ("stamp", "pid", "asked", "is_news"),
    [
        (BEGAN + 1, PID, "a.test", False),
        (BEGAN - 1, PID, "a.test", True),
        (BEGAN + 1, PID + 1, "a.test", True),
        (BEGAN + 1, PID, "b.test", True),
        (BEGAN + 1, PID, "a.test.search.test", True),
    ],
    ids=["during the call", "before it", "another process", "another name", "a name of the search list"],
)
def test_what_packets_told_is_no_news(calls, stamp, pid, asked, is_news):
    """A call that was answered by a packet to the same process, about the same name, is counted and not told again."""
    calls.heard(packet(stamp, pid), [(NET_PACKET_DNS, Captured(0, response_to(asked, f"{asked} A 192.0.2.1")))])
    _, _, payloads = calls.told(record(b"A.test.", "192.0.2.1"))
    assert bool(payloads) is is_news
    assert calls.counted["getaddrinfo_heard"] == (not is_news)


def test_a_name_that_was_found_otherwise_is_news(calls):
    """Where packets told of no such name, and the call found it all the same, that is told; a failure is no news."""
    calls.heard(packet(BEGAN + 1), [(NET_PACKET_DNS, Captured(0, response_to("a.test")))])
    assert calls.told(record(b"a.test", "192.0.2.1"))[2]
    assert not calls.told(record(b"a.test", error=-2))[2]


def test_what_is_no_answer_is_not_remembered(calls):
    """A query, and bytes that are no message, tell a process nothing."""
    query = bytearray(response_to("a.test", "a.test A 192.0.2.1"))
    query[2] &= 0x7F
    calls.heard(packet(BEGAN + 1), [(NET_PACKET_DNS, Captured(0, wire)) for wire in (bytes(query), b"", b"\xff" * 20)])
    assert calls.told(record(b"a.test", "192.0.2.1"))[2]


def test_what_is_remembered_is_bounded(calls, monkeypatch):
    """Of endless answers the last are remembered."""
    monkeypatch.setattr(getaddrinfo, "_MOST_HEARD", 5)
    for number in range(10):
        calls.heard(
            packet(BEGAN + 1),
            [(NET_PACKET_DNS, Captured(0, response_to(f"n{number}.test", f"n{number}.test A 192.0.2.1")))],
        )
    assert len(calls._heard) == 5
    assert calls.told(record(b"n0.test", "192.0.2.1"))[2]
    assert not calls.told(record(b"n9.test", "192.0.2.1"))[2]


@pytest.mark.parametrize(
    ("name", "error"),
    [
        (b"192.0.2.1", 0),
        (b"::1", 0),
        (b"fe80::1%eth0", 0),
        (b"a.test", -8),
        (b"a.test", -11),
        (b"x" * 255, 0),
        (b"", 0),
        (b" a.test", 0),
    ],
)
def test_a_call_that_says_nothing_of_a_name(calls, name, error):
    """A literal, an error of the caller, and what is no name are counted as passed over."""
    assert calls.told(record(name, "192.0.2.1", error=error))[2] == []
    assert calls.counted["getaddrinfo_passed_over"] == calls.counted["getaddrinfo"] == 1


def test_a_list_that_was_longer_is_counted(calls):
    """Where a program was given more than is read, that is counted."""
    assert calls.told(record(b"a.test", "192.0.2.1", more=1))[2]
    assert calls.counted["getaddrinfo_cut_short"] == 1
