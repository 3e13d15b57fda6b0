"""The open connections in pages, each connection with the name that it means (docs/use/lookups.md)."""

from __future__ import annotations

from typing import NamedTuple

import msgspec

from dnstrail.captured import Process
from dnstrail.connection import Connection
from dnstrail.dns.names import address_text
from dnstrail.image.binding.binder import connection_of
from dnstrail.image.binding.bindings import Binding
from dnstrail.image.bounds import SECOND
from dnstrail.image.result import EXPIRED
from dnstrail.image.trails.names import AddressNames
from dnstrail.image.trails.trail import state_of_answers
from dnstrail.protocol.lookups import ConnectionsRequest, ConnectionTo
from dnstrail_cache.state.cache_state import CacheState

_LIGHT = 8  # connections that are searched in the time for one relation
PAGE = 256  # connections of one page
AT_ONCE = 0.005  # seconds for one page: events and other requests wait meanwhile
RIVALS = 16  #: other names of one open connection -> the others are left out
_NOBODY = Process()


class KnownConnection(NamedTuple):
    """A connection, the name to which it is bound ("" if none), and the time of its event (None: now).

    `work` is the number of connections that were searched for it, divided by _LIGHT.
    """

    connection: Connection
    bound: str
    at: int | None
    work: int = 0

    def first(self, names: list[str]) -> list[str]:
        """Return names with the bound one first."""
        return list(dict.fromkeys([self.bound, *names])) if self.bound else names


def find_connection(to: ConnectionTo, at: int | None, state: CacheState, *, search: bool) -> KnownConnection:
    """Return a connection as the image knows it: as of the time at which it was bound, else as of its event.

    A connection without a socket is searched among those to its address, if `search` says so.
    """
    moment = at if at is not None or to.event is None else state.moment(None, event=to.event)
    bindings, address = state.image.binder.bindings, address_text(to.address) or ""
    binding, work = None, 0
    if to.socket:
        binding = bindings.of_socket((_host_of(to, state), to.socket))
    elif search:
        binding = state.image.binder.find(address, to.connection, state.now if moment is None else moment)
        work = bindings.searched(address) // _LIGHT
    if binding is None or binding.opening.address != address:
        return KnownConnection(to.connection, "", moment, work)
    return KnownConnection(connection_of(binding.opening), binding.meant(binding.stamp).name, binding.stamp, work)


def _host_of(to: ConnectionTo, state: CacheState) -> str:
    """Return the name by which this cache knows the host of a connection; its client may know another one."""
    turn = None if to.event is None else state.follower.last(to.event[0])
    return to.host if turn is None else turn.host


class OpenConnection(msgspec.Struct, frozen=True):
    """One open connection. Unknown fields are "" or 0; times are in seconds.

    `name` is the name that it means, and `bound` how it was found (thread, process, parent, last, sni, host). `state`
    states whether answers to this name lead to the address now (live, grace), or no longer (expired). `connected` is
    false until its success was seen; a connection over UDP was seen since it sent a datagram. `rivals` contains the
    likeliest other names, if they were asked for.
    """

    host: str
    process_id: int
    process_name: str
    executable: str
    container_id: str
    container_name: str
    client: str
    client_port: int
    address: str
    port: int
    transport: str
    name: str
    bound: str
    state: str
    connected: bool
    since: float
    age: float
    rivals: list[str]


class ConnectionPage(msgspec.Struct, frozen=True):
    """Some connections, the cursor of the next page ("" at the end), and the number of hosts that the cache follows."""

    connections: list[OpenConnection]
    next: str
    hosts: int


def page_of_connections(request: ConnectionsRequest, state: CacheState) -> ConnectionPage:
    """Return a page of the connections that were open at the first page, without those that ended meanwhile.

    The cursor contains the number of the last connection of the page before, and of the last one at the first page.
    """
    bindings, monotonic = state.image.binder.bindings, state.clock.monotonic
    place, last = map(int, request.cursor.split() or (0, bindings.added))
    found: list[OpenConnection] = []
    walks: dict[str, AddressNames] = {}
    until, hosts = monotonic() + AT_ONCE, len(state.hosts)
    for binding in bindings.open_after(place):
        if binding.number > last:
            break
        if _is_asked_for(binding, request):
            found.append(_shown(binding, state, walks if request.rivals else None))
        if len(found) == PAGE or monotonic() >= until:
            return ConnectionPage(found, f"{binding.number} {last}", hosts)
    return ConnectionPage(found, "", hosts)


def _is_asked_for(binding: Binding, request: ConnectionsRequest) -> bool:
    process = binding.opening.process or _NOBODY
    return (
        request.host in (None, binding.opening.host)
        and request.process in (None, process.pid)
        and (request.container is None or _is_container(request.container, process))
    )


def _is_container(text: str, process: Process) -> bool:
    return bool(text) and (process.container_id.startswith(text) or process.container_name == text)


def _shown(binding: Binding, state: CacheState, walks: dict[str, AddressNames] | None) -> OpenConnection:
    """Return a connection as a reply contains it; `walks` holds the names of the addresses of this page."""
    opening, meaning = binding.opening, binding.meant(state.now)
    process = opening.process or _NOBODY
    return OpenConnection(
        host=opening.host,
        process_id=process.pid,
        process_name=process.name,
        executable=process.path,
        container_id=process.container_id,
        container_name=process.container_name,
        client=binding.client,
        client_port=binding.client_port,
        address=opening.address,
        port=opening.port,
        transport=opening.transport,
        name=meaning.name,
        bound=meaning.by,
        state=_state_of(meaning.name, opening.address, state) if meaning.name else "",
        connected=binding.connected or opening.transport == "udp",
        since=state.wall(binding.stamp),
        age=(state.now - binding.stamp) / SECOND,
        rivals=[] if walks is None else _rivals(binding, meaning.name, state, walks),
    )


def _state_of(name: str, address: str, state: CacheState) -> str:
    """Return the state of what the answers to a name state about an address."""
    root = state.image.store.places.roots.get(name)
    return EXPIRED if root is None else state_of_answers(state.image.view(now=state.now), root, address)


def _rivals(binding: Binding, name: str, state: CacheState, walks: dict[str, AddressNames]) -> list[str]:
    address = binding.opening.address
    if address not in walks:
        walks[address] = state.image.names_of_address(address, now=state.now)
    names = walks[address].likeliest(connection_of(binding.opening), name)
    return [other for other in names if other != name][:RIVALS]
