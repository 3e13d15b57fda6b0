"""Calls of getaddrinfo as DNS responses, without those whose answer was captured in a packet."""

from __future__ import annotations

from collections import Counter, OrderedDict

from dnstrail.dns import is_response
from dnstrail.dns.message import read_question
from dnstrail.dns.names import lookup_key
from dnstrail.errors import BadMessage
from dnstrail_probe.ebpf import records
from dnstrail_probe.ebpf.getaddrinfo import messages
from dnstrail_probe.ebpf.getaddrinfo.library_thread import LibraryThread
from dnstrail_probe.ebpf.getaddrinfo.uprobes import Watch

_MOST_ANSWERS = 4096
_ANSWER_COUNT, _NONE = slice(6, 8), b"\0\0"  # in the header of a message


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
        requested, outcome = records.text(call.name), messages.outcome(call.error)
        name = None if requested.strip() != requested else lookup_key(requested)
        self._counters["getaddrinfo"] += 1
        self._counters["getaddrinfo_cut_short"] += bool(call.more)
        if name and self._answers.get((call.pid, name, not call.error), 0) >= call.began:
            self._counters["getaddrinfo_suppressed"] += 1
            return call, outcome, []
        found = messages.responses(name, addresses, call.error, call.family) if name and outcome else []
        self._counters["getaddrinfo_skipped"] += not found
        return call, outcome, found

    def close(self) -> None:
        """Stop watching."""
        self._libraries.close()
