"""What getaddrinfo tells programs: the libraries that are watched, and of each call what no packet has told."""

from __future__ import annotations

from collections import Counter, OrderedDict

from dnstrail.dns import is_response
from dnstrail.dns.message import read_question
from dnstrail.dns.names import lookup_key
from dnstrail.errors import BadMessage
from dnstrail_probe.ebpf import records
from dnstrail_probe.ebpf.getaddrinfo.library_finder import LibraryFinder
from dnstrail_probe.ebpf.getaddrinfo.messages import outcome, responses
from dnstrail_probe.ebpf.loader import Programs
from dnstrail_probe.source import Captures

_MOST_HEARD = 4096
_ANSWER_COUNT, _NONE = slice(6, 8), b"\0\0"  # in the header of a message


class GetaddrinfoCalls:
    """The calls of getaddrinfo on this host. Counts in `counters` what becomes of them, and of the libraries."""

    def __init__(self, programs: Programs, counters: Counter[str], capabilities: tuple[str, ...]) -> None:
        self._counters = counters
        self._heard: OrderedDict[tuple[int, str, bool], int] = OrderedDict()  # process, name, whether it was answered
        self._libraries = LibraryFinder(programs.watch_getaddrinfo, counters, capabilities)

    def started(self, pid: int) -> None:
        """A process has begun to run something."""
        self._libraries.look(pid)

    def starting(self, cgroup: str) -> None:
        """A container will start in a cgroup, by its folder."""
        self._libraries.look_into(cgroup)

    def heard(self, packet: records.PacketRecord, messages: Captures) -> None:
        """DNS messages that reached a process: what getaddrinfo tells it of them then is no news."""
        for _, message in messages:
            if not is_response(message.payload):
                continue
            try:
                name, *_ = read_question(message.payload, {})
            except BadMessage:
                continue
            key = packet.pid, name, message.payload[_ANSWER_COUNT] != _NONE
            self._heard[key] = packet.ts
            self._heard.move_to_end(key)
            if len(self._heard) > _MOST_HEARD:
                self._heard.popitem(last=False)

    def told(self, record: bytes) -> tuple[records.GetaddrinfoRecord, str, list[bytes]]:
        """A call that has returned, how its outcome is called, and the messages that tell of it.

        There are none where packets told it, or where it says nothing of a name.
        """
        call, addresses = records.read_getaddrinfo(record)
        asked, how = records.text(call.name), outcome(call.error)
        name = None if asked.strip() != asked else lookup_key(asked)
        self._counters["getaddrinfo"] += 1
        self._counters["getaddrinfo_cut_short"] += bool(call.more)
        if name and self._heard.get((call.pid, name, not call.error), 0) >= call.began:
            self._counters["getaddrinfo_heard"] += 1
            return call, how, []
        payloads = responses(name, addresses, call.error, call.family) if name and how else []
        self._counters["getaddrinfo_passed_over"] += not payloads
        return call, how, payloads

    def close(self) -> None:
        """Watch no more."""
        self._libraries.close()
