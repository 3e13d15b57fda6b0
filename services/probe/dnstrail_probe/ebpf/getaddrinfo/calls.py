"""Calls of getaddrinfo as DNS responses, without those whose answer was captured in a packet."""

from __future__ import annotations

import socket
import struct
from collections import Counter, OrderedDict
from collections.abc import Iterable
from contextlib import suppress

import dns.name
import dns.rcode
import dns.rdatatype

from dnstrail.dns import is_response
from dnstrail.dns.message import read_question
from dnstrail.dns.names import V4_MAPPED, is_node, lookup_key
from dnstrail.errors import BadMessage
from dnstrail_probe.ebpf import records
from dnstrail_probe.ebpf.getaddrinfo.library_thread import LibraryThread
from dnstrail_probe.ebpf.getaddrinfo.uprobes import Watch

_TTL = 0  # getaddrinfo returns no TTL: a relation lives for the grace alone
_EAI_NONAME = -2
# Return value (netdb.h of glibc and musl) -> its name, and the DNS response code that means the same.
_OUTCOMES = {
    0: ("success", dns.rcode.NOERROR),
    _EAI_NONAME: ("EAI_NONAME", dns.rcode.NXDOMAIN),
    -3: ("EAI_AGAIN", dns.rcode.SERVFAIL),
    -4: ("EAI_FAIL", dns.rcode.SERVFAIL),
    -5: ("EAI_NODATA", dns.rcode.NOERROR),
    -9: ("EAI_ADDRFAMILY", dns.rcode.NOERROR),
}
_AI_NUMERICHOST, _AI_ADDRCONFIG = 0x04, 0x20  # flags in the hints (netdb.h of glibc and musl)
_A, _AAAA = int(dns.rdatatype.A), int(dns.rdatatype.AAAA)
_REQUESTED: dict[int, tuple[int, ...]] = {socket.AF_INET: (_A,), socket.AF_INET6: (_AAAA,)}
_BOTH = (_A, _AAAA)
_KINDS = {4: _A, 16: _AAAA}  # bytes of an address -> type of its record
_HEADER = struct.Struct("!6H")
_QUESTION = struct.Struct("!2H")
_RECORD = struct.Struct("!3HIH")
_FLAGS = 0x8180  # a response, recursion desired and available
_IN = 1
_OWNER = 0xC00C  # a pointer to the name in the question
_MOST_ANSWERS = 4096
_ANSWER_COUNT, _NONE = slice(6, 8), b"\0\0"  # in the header of a message


def outcome_of(error: int) -> str:
    """Return the name of a return value; "" for an error that is not about the name (RFC 3493, section 6.1)."""
    return _OUTCOMES[error][0] if error in _OUTCOMES else ""


def responses(name: str, addresses: Iterable[bytes], error: int, family: int, flags: int) -> list[bytes]:
    """Return one response for each kind of address in the result; on an error, one for each kind that was requested.

    `name` is a lookup key, `error` a return value that has an outcome. `family` and `flags` are those of the hints
    (AF_UNSPEC: 0). An address literal yields no response, and neither does AI_NUMERICHOST, which accepts nothing else.
    """
    if flags & _AI_NUMERICHOST or not is_node(name) or _is_number(name):
        return []
    found: dict[int, list[bytes]] = {}
    for address in addresses:
        packed = address.removeprefix(V4_MAPPED)
        found.setdefault(_KINDS[len(packed)], []).append(packed)
    owner, code = dns.name.from_text(name).to_wire() or b"", _response_code(error, family, flags)
    kinds = _REQUESTED.get(family, _BOTH) if error else found
    return [_response(owner, kind, found.get(kind, []), code) for kind in kinds]


def _response_code(error: int, family: int, flags: int) -> int:
    if error == _EAI_NONAME and family != socket.AF_UNSPEC and flags & _AI_ADDRCONFIG:
        return int(dns.rcode.NOERROR)  # if the host has no address of the family, glibc asks nobody
    return int(_OUTCOMES[error][1])


def _response(owner: bytes, kind: int, addresses: list[bytes], code: int) -> bytes:
    records = [_RECORD.pack(_OWNER, kind, _IN, _TTL, len(address)) + address for address in addresses]
    head = _HEADER.pack(0, _FLAGS | code, 1, len(records), 0, 0)
    return head + owner + _QUESTION.pack(kind, _IN) + b"".join(records)


def _is_number(name: str) -> bool:
    """Return true for an IPv4 address in an older spelling, which getaddrinfo accepts: 127.1, 0x7f.1, 1."""
    with suppress(OSError):
        return bool(socket.inet_aton(name))
    return False


class GetaddrinfoCalls:
    """The calls of getaddrinfo on this host; the libraries are watched until `close`.

    A call whose answer the same process received in a captured packet is suppressed, so each answer is reported once.
    Every call is counted in `counters`, with its reason if it is not reported. `watch` attaches the uprobes to a
    library; `capabilities` are those that the thread of the libraries keeps.
    """

    def __init__(self, watch: Watch, counters: Counter[str], capabilities: tuple[str, ...]) -> None:
        lookup_key("\u00fc.example")  # imports the codecs now: later the probe may not be able to read them
        self._counters = counters
        # (process, name, has records) -> time of the last answer
        self._answers: OrderedDict[tuple[int, str, bool], int] = OrderedDict()
        self._libraries = LibraryThread(watch, counters, capabilities)

    def process_started(self, pid: int) -> None:
        """Watch the library of a process that executed a program."""
        self._libraries.process_started(pid)

    def container_starting(self, cgroup: str) -> None:
        """Watch the library of a container that starts in a cgroup, given by its folder."""
        self._libraries.container_starting(cgroup)

    def note_answer(self, packet: records.PacketRecord, payload: bytes) -> None:
        """Note an answer that a process received in a packet, so that its call that returns it is suppressed."""
        if not is_response(payload):
            return
        try:
            name, *_ = read_question(payload, {})
        except BadMessage:
            return
        key = packet.pid, name, payload[_ANSWER_COUNT] != _NONE
        self._answers[key] = packet.ts
        self._answers.move_to_end(key)
        if len(self._answers) > _MOST_ANSWERS:
            self._answers.popitem(last=False)

    def responses(self, record: bytes) -> tuple[records.GetaddrinfoRecord, str, list[bytes]]:
        """Return a call, the name of its outcome, and its result as DNS responses.

        There are no responses if the call is suppressed, or if it is not about a name.
        """
        call, addresses = records.read_getaddrinfo(record)
        requested, outcome = records.name_text(call.name), outcome_of(call.error)
        name = None if requested.strip() != requested else lookup_key(requested)
        self._counters["getaddrinfo"] += 1
        self._counters["getaddrinfo_cut_short"] += bool(call.more)
        if name and self._answers.get((call.pid, name, not call.error), 0) >= call.began:
            self._counters["getaddrinfo_suppressed"] += 1
            return call, outcome, []
        found = responses(name, addresses, call.error, call.family, call.flags) if name and outcome else []
        self._counters["getaddrinfo_skipped"] += not found
        return call, outcome, found

    def close(self) -> None:
        """Stop watching."""
        self._libraries.close()
