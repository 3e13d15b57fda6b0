"""Applies one event to the image, by its effect: the specification of an event names it (`events/`)."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Final

from dnstrail.captured import GETADDRINFO, LAST_TIME, RELAY, Captured, Flow, Process
from dnstrail.dns.names import address_text, known_address
from dnstrail.image.answer import Circumstances
from dnstrail.image.binding.binder import connection_of
from dnstrail.image.binding.bindings import ConnectionOpening, SocketKey
from dnstrail.image.image import FeedOutcome, Image
from dnstrail.image.trails.server_names import ServerNameSighting

_MESSAGE: Final = "message"
_NO_OUTCOME = FeedOutcome()
_UNKNOWN = Flow(b"", 0, b"", 0, "tcp")
_AHEAD: Final = 1_000_000  # ns by which a stamp may be later than its arrival without being counted


class Stamps:
    """The stamps of the events of a batch, on the clock of the stream (ns).

    `shift` is added to their time stamps, and none is later than `latest` or less than 0, whatever the probe sent.
    `ahead` counts those that were later by more than a millisecond.
    """

    __slots__ = ("ahead", "latest", "shift")

    def __init__(self, shift: int = 0, latest: int = LAST_TIME) -> None:
        self.shift = shift
        self.latest = latest
        self.ahead = 0

    def of(self, timestamp: int) -> int:
        """Return the stamp of an event with this time stamp."""
        stamp = timestamp + self.shift
        if 0 <= stamp <= self.latest:
            return stamp
        if stamp < 0:
            return 0
        if stamp - self.latest > _AHEAD:
            self.ahead += 1
        return self.latest


def apply_event(
    image: Image,
    effect: str,
    event: Captured,
    *,
    live: bool,
    stamp: int | None = None,
    host: str = "",
    batch: str = "",
    place: int = 0,
) -> FeedOutcome:
    """Apply an event with one of EFFECTS to the image, and return the outcome of a DNS message.

    `stamp` is the time of the event on the clock of the stream (ns), by default its own time stamp. `host` is the host
    on which the event was captured. `batch` and `place` name it among all events. Other effects return an empty
    outcome, and an unknown one changes nothing.
    Connections and processes are applied in the order of their stamps, after the messages with earlier stamps.
    """
    stamp = event.timestamp if stamp is None else stamp
    if effect == _MESSAGE:
        circumstances = Circumstances(event.flow, event.process, live, host=host, batch=batch, place=place)
        return _apply_message(image, stamp, event, circumstances)
    apply, facts = _APPLY.get(effect), image.connections
    if facts is not None:
        facts.event = batch, place
    if apply is not None:
        apply(image, stamp, event, host)
    return _NO_OUTCOME


def apply_messages(
    image: Image,
    rows: Iterable[tuple[Any, Process | None]],
    stamps: Stamps,
    *,
    live: bool,
    host: str,
    behind: bool = False,
    batch: str = "",
    first: int = 0,
) -> list[tuple[int, FeedOutcome]]:
    """Apply the DNS messages of some events, and return the places and outcomes of conflicts and skipped answers.

    A row is an event, as its batch states it, and its process. `first` is the place of the first row in the batch.
    `behind` and `batch` are those of Circumstances.
    """
    circumstances = Circumstances(live=live, host=host, behind=behind, batch=batch)
    notable = []
    for place, (event, process) in enumerate(rows, first):
        circumstances.flow, circumstances.process, circumstances.place = event.flow, process, place
        outcome = _apply_message(image, stamps.of(event.timestamp), event, circumstances)
        if outcome.conflict or outcome.skipped is not None:
            notable.append((place, outcome))
    return notable


def _apply_message(image: Image, stamp: int, event: Any, circumstances: Circumstances) -> FeedOutcome:
    """Apply a DNS message to the image; the arguments of its event complete its circumstances."""
    args = event.args
    foreign = args.get("foreign") if args else None
    circumstances.foreign = foreign if isinstance(foreign, bool) else None  # whoever publishes may send any value
    circumstances.asked = bool(args) and GETADDRINFO in args
    circumstances.relay = _relay(args[RELAY]) if args and RELAY in args else None
    return image.feed(stamp, event.payload, circumstances)


def _relay(sent: object) -> tuple[int, int] | None:
    """Return the pid and the start of a relay; None for any other value."""
    if isinstance(sent, (list, tuple)) and len(sent) == 2:  # noqa: PLR2004 - pid and start
        pid, start = sent
        if isinstance(pid, int) and isinstance(start, int):
            return pid, start
    return None


def socket_key(event: Captured, host: str) -> SocketKey:
    """Return the key of the socket of a connection event: its cookie, else the ends of the connection."""
    flow = event.flow
    if flow is None:
        return (host,)
    if flow.socket:
        return host, flow.socket
    return host, flow.source, flow.source_port, flow.destination, flow.destination_port


def _apply_connection(image: Image, stamp: int, event: Captured, host: str) -> None:
    port, address = event.args.get("dst_port"), address_text(str(event.args.get("dst", "")))
    if address is None or not isinstance(port, int):
        return
    flow = event.flow or _UNKNOWN
    opening = ConnectionOpening(
        socket=socket_key(event, host),
        address=address,
        port=port,
        host=host,
        process=event.process,
        client=_client(event),
        client_port=flow.source_port,
        namespace=flow.namespace,
        transport=flow.transport,
    )
    image.note_connection(stamp, connection_of(opening), address)
    image.binder.connect(stamp, opening)


def _apply_outcome(image: Image, stamp: int, event: Captured, host: str) -> None:
    source = (_client(event), event.flow.source_port) if event.flow else ("", 0)
    connected, error = event.args.get("connected") is True, str(event.args.get("error", ""))
    image.binder.concluded(socket_key(event, host), stamp, source, connected=connected, error=error)


def _apply_close(image: Image, stamp: int, event: Captured, host: str) -> None:
    sent, received = event.args.get("bytes_sent"), event.args.get("bytes_received")
    counted = (sent, received) if isinstance(sent, int) and isinstance(received, int) else (-1, -1)
    image.binder.bindings.close(socket_key(event, host), stamp, *counted)


def _apply_dns_close(image: Image, stamp: int, event: Captured, host: str) -> None:
    socket = event.args.get("socket")
    if event.process is not None and isinstance(socket, int):
        image.binder.closed(host, event.process, socket, stamp)


def _apply_server_name(image: Image, stamp: int, event: Captured, host: str) -> None:
    name, evidence = str(event.args.get("server_name", "")), str(event.args.get("evidence", ""))
    address = known_address(event.flow.destination) if event.flow else ""
    if event.flow and address and name:
        port = event.flow.destination_port
        image.note_server_name(address, ServerNameSighting(stamp, name, evidence, _client(event), port))
        image.binder.bindings.note_said(socket_key(event, host), stamp, name, evidence)


def _apply_fork(image: Image, stamp: int, event: Captured, host: str) -> None:
    child = event.args.get("child_pid")
    if isinstance(child, int):
        image.binder.forked(host, event.process, child, stamp)


def _apply_exec(image: Image, stamp: int, event: Captured, host: str) -> None:
    image.binder.executed(host, event.process, stamp)


def _apply_exit(image: Image, stamp: int, event: Captured, host: str) -> None:
    image.binder.exited(host, event.process, stamp)


def _client(event: Captured) -> str:
    """Return the address of the client, "" if it is unknown."""
    return known_address(event.flow.source) if event.flow else ""


_APPLY: Final[dict[str, Callable[[Image, int, Captured, str], None]]] = {
    "connect": _apply_connection,
    "conclude": _apply_outcome,
    "close": _apply_close,
    "end_lookups": _apply_dns_close,
    "server_name": _apply_server_name,
    "fork": _apply_fork,
    "exec": _apply_exec,
    "exit": _apply_exit,
}
EFFECTS = (_MESSAGE, *_APPLY)
