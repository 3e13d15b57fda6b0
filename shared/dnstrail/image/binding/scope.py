"""The scope that the asker of a question shares with a connection, and the connections that followed answers."""

from __future__ import annotations

from dnstrail.captured import Process
from dnstrail.connection import Connection
from dnstrail.dns.names import known_address
from dnstrail.image.bounds import SECOND
from dnstrail.image.evidence import Evidence
from dnstrail.image.graph import Graph, newest_first
from dnstrail.image.record import LATE, Record

SCOPES = ("process", "container", "host", "any")  # the narrowest first
ANY_SCOPE = len(SCOPES) - 1
#: ns from an answer to a connection that counts for it, or that spends the question of a daemon -> the connection is
#: not counted, and means the last question
SOON = SECOND  # a program connects once it has its answer, mostly within some milliseconds
MAX_PORTS = 16  # ports of one record whose connections are counted
MAX_LED = 16  # connections to one port whose stamps are held; older ones are only counted
_SEARCHED = 64  # records of an address, the last answered first, among which a connection finds its answer
_NOBODY = Process()


def scope_of(evidence: Evidence, connection: Connection) -> int:
    """Return the place in SCOPES of the narrowest scope that an asker shares with a connection.

    Process ids and private addresses of another host are others.
    """
    if connection.host and evidence.host and connection.host != evidence.host:
        return ANY_SCOPE
    process = evidence.process or _NOBODY
    if connection.process and process.pid == connection.process and _is_one_of(process, connection.starts):
        return 0
    if connection.container and process.container_id == connection.container:
        return 1
    if connection.client and known_address(evidence.client) == connection.client:
        return 2
    return ANY_SCOPE


def _is_one_of(process: Process, starts: frozenset[int] | None) -> bool:
    return starts is None or process.start_time in starts


def last_question(graph: Graph, stamp: int, connection: Connection, address: str, grace: int) -> str:
    """Return the last question of the narrowest scope whose answer was live at a time, "" if there is none.

    Only the process itself gives a sinkhole address a name. The last answers are searched alone.
    """
    best: tuple[bool, int, int] | None = None
    name, widest = "", 0 if is_sinkhole(address) else ANY_SCOPE
    for _, record in zip(range(_SEARCHED), newest_first(graph.into, address), strict=False):
        places = [place for place in record.leading_to(address) if record.edges[place][2] == address]
        for sighting in record.sightings():
            if not places or not sighting.stamp <= stamp < max(map(sighting.end, places)) + grace:
                continue
            scope = scope_of(sighting.evidence, connection)
            rank = not record.doubted, -scope, sighting.number
            if scope <= widest and (best is None or rank > best):
                best, name = rank, record.root.name
    return name


def note_connection(graph: Graph, stamp: int, connection: Connection, address: str) -> None:
    """Count a connection for the answer that it followed within SOON: the last answer of its narrowest scope."""
    best: tuple[int, int] | None = None
    found: Record | None = None
    for _, record in zip(range(_SEARCHED), newest_first(graph.into, address), strict=False):
        if record.youngest.stamp < stamp - SOON and record.latest != LATE:
            continue
        for sighting in record.sightings():
            scope = scope_of(sighting.evidence, connection)
            if 0 <= stamp - sighting.stamp <= SOON and scope < ANY_SCOPE:
                rank = -scope, sighting.number
                if best is None or rank > best:
                    best, found = rank, record
    if found is None:
        return
    port = connection.port or 0
    if found.led is None:
        found.led = {}
    if port in found.led or len(found.led) < MAX_PORTS:
        stamps = found.led.setdefault(port, [0])
        stamps.append(stamp)
        if len(stamps) > MAX_LED + 1:
            del stamps[1]
            stamps[0] += 1


def led_to(record: Record, port: int, at: int | None) -> int:
    """Return the number of connections to a port that had followed an answer of a record by then."""
    if record.led is None or port not in record.led:
        return 0
    older, *stamps = record.led[port]
    return older + sum(at is None or stamp <= at for stamp in stamps)


_NETWORKS = ("0.", "127.")  # 0.0.0.0/8 and 127.0.0.0/8, in canonical text
_ADDRESSES = frozenset({"::", "::1"})


def is_sinkhole(address: str) -> bool:
    """Return whether resolvers answer with this address to block a name: it is unspecified or a loopback address."""
    return address.startswith(_NETWORKS) or address in _ADDRESSES
