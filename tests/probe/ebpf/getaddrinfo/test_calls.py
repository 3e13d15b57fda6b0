from __future__ import annotations

import struct
import sys
from collections import Counter
from ipaddress import ip_address
from pathlib import Path

import dns.message
import msgspec
import pytest

from builders.dns_builders import response_to
from dnstrail_probe.ebpf import records
from dnstrail_probe.ebpf.getaddrinfo import calls as getaddrinfo
from dnstrail_probe.ebpf.getaddrinfo.calls import GetaddrinfoCalls
from dnstrail_probe.ebpf.source import EbpfSource

BEGAN, RETURNED, PID = 1000, 2000, 70
ENTRIES = 64
NUMERICHOST, ADDRCONFIG = 0x04, 0x20  # flags in the hints
V4, V6 = 2, 10  # families in the hints
EAI_NONAME = -2


@pytest.fixture
def calls():
    """Return calls of getaddrinfo, without uprobes."""
    counters: Counter[str] = Counter()
    watching = GetaddrinfoCalls(lambda _file, _offset: (), counters, EbpfSource.capabilities)
    watching.counted = counters
    yield watching
    watching.close()


@pytest.fixture
def unread(monkeypatch):
    """Return the name of a module that only unusual names need, as if it was not imported yet."""
    monkeypatch.setattr(dns, "name", dns.name)  # is the present module again afterwards
    monkeypatch.delitem(sys.modules, "dns.name")
    return "dns.name"


def test_codecs_are_imported_before_capabilities_are_dropped(unread, calls):
    """The modules that an unusual name needs are imported before the first call, since the probe drops capabilities."""
    del calls
    assert unread in sys.modules


def record(name: bytes, *addresses: str, error: int = 0, flags: int = 0, family: int = 0, more: int = 0) -> bytes:
    """Return a record as the program writes it."""
    head = struct.pack("<QII2QII", RETURNED, 10, PID, 9, BEGAN, 71, 1000)
    head += struct.pack("<3iII4x16s256s", error, flags, family, more, 3, b"app", name)
    entries = b"".join(_entry(address) for address in addresses)
    return head + entries.ljust(ENTRIES * 20, b"\0")


def _entry(address: str) -> bytes:
    packed = ip_address(address).packed
    return (2 if len(packed) == 4 else 10).to_bytes(4, "little") + packed.ljust(16, b"\xee")


def packet(stamp: int, pid: int = PID) -> records.PacketRecord:
    """Return the head of a packet that reached a process."""
    nothing = records.PacketRecord(*[0] * len(records.PacketRecord.__struct_fields__))
    return msgspec.structs.replace(nothing, ts=stamp, pid=pid)


def names(responses: list[bytes]) -> list[str]:
    """Return the questions of messages."""
    return [dns.message.from_wire(wire).question[0].to_text() for wire in responses]


def test_a_record_has_the_size_of_its_struct():
    """Head and entries of a record have the sizes of their structs, which end without padding."""
    source = (Path(records.__file__).parent / "programs" / "getaddrinfo.bpf.c").read_text()
    assert f"#define ANSWERS {ENTRIES}" in source
    assert len(record(b"a.test")) == records._RESOLVED.size + ENTRIES * 20 == 336 + ENTRIES * 20
    assert len(record(b"a.test")) % 8 == 0


def test_a_call_becomes_responses(calls):
    """A call becomes one response for each kind of address, with each address once; its record names the caller."""
    call, outcome, responses = calls.responses(
        record(b"WWW.a.test", "192.0.2.1", "192.0.2.1", "192.0.2.1", "2001:db8::1")
    )
    assert outcome == "success"
    assert names(responses) == ["www.a.test. IN A", "www.a.test. IN AAAA"]
    assert [len(dns.message.from_wire(wire).answer[0]) for wire in responses] == [1, 1]
    assert (call.pid, call.tid, call.uid, call.cgroup, call.ts, call.noted) == (PID, 71, 1000, 9, RETURNED, RETURNED)
    assert (records.text(call.comm), call.processor) == ("app", 3)


@pytest.mark.parametrize(
    ("stamp", "pid", "requested", "reported"),
    [
        (BEGAN + 1, PID, "a.test", False),
        (BEGAN - 1, PID, "a.test", True),
        (BEGAN + 1, PID + 1, "a.test", True),
        (BEGAN + 1, PID, "b.test", True),
        (BEGAN + 1, PID, "a.test.search.test", True),
    ],
    ids=["during the call", "before it", "another process", "another name", "a name of the search list"],
)
def test_an_answer_in_a_packet_suppresses_the_call(calls, stamp, pid, requested, reported):
    """A call is suppressed and counted if its process received an answer for its name in a packet meanwhile."""
    answer = response_to(requested, f"{requested} A 192.0.2.1")
    calls.note_answer(packet(stamp, pid), answer)
    _, _, responses = calls.responses(record(b"A.test.", "192.0.2.1"))
    assert bool(responses) is reported
    assert calls.counted["getaddrinfo_suppressed"] == (not reported)


def test_a_name_that_was_found_elsewhere_is_reported(calls):
    """A call that found addresses is reported although packets had none; a failed call is suppressed."""
    calls.note_answer(packet(BEGAN + 1), response_to("a.test"))
    assert calls.responses(record(b"a.test", "192.0.2.1"))[2]
    assert not calls.responses(record(b"a.test", error=-2))[2]


def test_only_responses_suppress_a_call(calls):
    """Queries, and bytes that are no message, suppress nothing."""
    query = bytearray(response_to("a.test", "a.test A 192.0.2.1"))
    query[2] &= 0x7F
    payloads = (bytes(query), b"", b"\xff" * 20)
    for wire in payloads:
        calls.note_answer(packet(BEGAN + 1), wire)
    assert calls.responses(record(b"a.test", "192.0.2.1"))[2]


def test_noted_answers_are_bounded(calls, monkeypatch):
    """Beyond the bound the oldest answers are evicted."""
    monkeypatch.setattr(getaddrinfo, "_MOST_ANSWERS", 5)
    for number in range(10):
        answer = response_to(f"n{number}.test", f"n{number}.test A 192.0.2.1")
        calls.note_answer(packet(BEGAN + 1), answer)
    assert len(calls._answers) == 5
    assert calls.responses(record(b"n0.test", "192.0.2.1"))[2]
    assert not calls.responses(record(b"n9.test", "192.0.2.1"))[2]


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
def test_a_call_that_is_not_about_a_name_is_skipped(calls, name, error):
    """Address literals, errors of the caller, and invalid names are counted as skipped."""
    assert calls.responses(record(name, "192.0.2.1", error=error))[2] == []
    assert calls.counted["getaddrinfo_skipped"] == calls.counted["getaddrinfo"] == 1


@pytest.mark.parametrize(
    ("flags", "family", "code"),
    [
        (0, 0, "NXDOMAIN"),
        (0, V6, "NXDOMAIN"),
        (ADDRCONFIG, 0, "NXDOMAIN"),
        (ADDRCONFIG, V6, "NOERROR"),
        (ADDRCONFIG | 1, V4, "NOERROR"),
    ],
)
def test_a_family_without_an_address_on_the_host_is_no_missing_name(calls, flags, family, code):
    """EAI_NONAME is NXDOMAIN, but no data with AI_ADDRCONFIG and a family: glibc then may not have asked."""
    _, outcome, responses = calls.responses(record(b"a.test", error=EAI_NONAME, flags=flags, family=family))
    messages = [dns.message.from_wire(wire) for wire in responses]
    assert outcome == "EAI_NONAME"
    assert names(responses) == [
        f"a.test. IN {kind}" for kind, asked in (("A", V4), ("AAAA", V6)) if family in (0, asked)
    ]
    assert {(dns.rcode.to_text(message.rcode()), *message.answer) for message in messages} == {(code,)}


@pytest.mark.parametrize(
    ("requested", "shown"),
    [
        (b"\xffName.test", r"\255name.test."),
        (b"\xff\xc3\xbc.test", r"\255\195\188.test."),
        ("\u00fc.test".encode(), "xn--tda.test."),
    ],
    ids=["a byte", "a byte before a letter", "letters"],
)
def test_a_name_that_is_not_utf8_keeps_its_bytes(calls, requested, shown):
    """A name that is not UTF-8 is reported with its bytes, and suppressed by a packet that contains them."""
    assert names(calls.responses(record(requested, "192.0.2.1"))[2]) == [f"{shown} IN A"]
    calls.note_answer(packet(BEGAN + 1), response_to(shown, f"{shown} A 192.0.2.1"))
    assert calls.responses(record(requested, "192.0.2.1"))[2] == []


@pytest.mark.parametrize("flags", [NUMERICHOST, NUMERICHOST | ADDRCONFIG])
def test_a_test_for_an_address_is_skipped(calls, flags):
    """A call with AI_NUMERICHOST asks nobody about its text: it is counted as skipped."""
    assert calls.responses(record(b"a.test", error=EAI_NONAME, flags=flags, family=V6))[2] == []
    assert calls.counted["getaddrinfo_skipped"] == calls.counted["getaddrinfo"] == 1


def test_a_result_that_is_too_long_is_counted(calls):
    """A result with more entries than are read is counted as cut short."""
    assert calls.responses(record(b"a.test", "192.0.2.1", more=1))[2]
    assert calls.counted["getaddrinfo_cut_short"] == 1
