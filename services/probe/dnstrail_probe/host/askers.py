"""Askers: which captures of a question have another capture on this host that is nearer to its asker.

A forwarder and a server on the host of the client capture the same question and its answer again. A detection that
would report each of them acts on the capture that is nearest to the asker (`Event.at_asker`).
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

from dnstrail.captured import CLIENT, FORWARDER, SERVER, Flow
from dnstrail.dns import is_response
from dnstrail.dns.header import read_header
from dnstrail.errors import BadMessage
from dnstrail_probe.host.process_table import ProcessEntry

_RESPONSE = 0x80  # QR, in the third byte of a message
REMEMBERED = 30_000_000_000  # ns after which a question is over
MOST = 16384  # clients, and questions to processes, that are remembered
_Times = OrderedDict[Any, int]


class Askers:
    """The clients that asked from this host, and the questions that its processes received; both bounded."""

    def __init__(self) -> None:
        self._clients: _Times = OrderedDict()  # by address and port
        self._received: _Times = OrderedDict()  # by process and question

    def relayed(self, relay: int, payload: bytes, now: int) -> None:
        """Note that NAT passes a query of a client to a socket of the process `relay`, which is its relay."""
        if not is_response(payload) and (question := _question(payload)):
            _note(self._received, (relay, question), now)

    def seen(self, flow: Flow, process: int, payload: bytes, now: int, *, client: bool) -> bool:
        """Note a message that was captured at its client or at its server; return whether its asker was seen, too."""
        answered = is_response(payload)
        if not client:
            if not answered and (question := _question(payload)):
                _note(self._received, (process, question), now)
            asker = (flow.destination, flow.destination_port) if answered else (flow.source, flow.source_port)
            return _holds(self._clients, asker, now)
        if not answered:
            _note(self._clients, (flow.source, flow.source_port), now)
        return flow.role == FORWARDER and _holds(self._received, (process, _question(payload)), now)


def _question(payload: bytes) -> bytes:
    """Return the name and type of a question without the id of the message; b"" if there is none."""
    try:
        return read_header(payload).question[2:]
    except BadMessage:
        return b""


def _note(times: _Times, key: object, now: int) -> None:
    times[key] = now
    times.move_to_end(key)
    if len(times) > MOST:
        times.popitem(last=False)


def _holds(times: _Times, key: object, now: int) -> bool:
    noted = times.get(key)
    return noted is not None and now - noted <= REMEMBERED


def note_role(
    entry: ProcessEntry | None, payload: bytes, *, egress: bool, to_server: bool, from_server: bool
) -> tuple[bool, str]:
    """Return whether a packet was captured at the client, and the role of its process by all its packets so far.

    It was captured there if it is an outgoing query or an incoming response. `to_server` and `from_server`: destination
    or source has a DNS port. If both have one, the message decides. The role is noted in the entry of the process.
    """
    client = to_server if egress else from_server
    if to_server and from_server:
        client = egress != bool(payload[2:3] and payload[2] & _RESPONSE)
    if entry is not None:
        entry.asks |= client
        entry.answers |= not client
        if entry.asks and entry.answers:
            return client, FORWARDER
    return client, CLIENT if client else SERVER
