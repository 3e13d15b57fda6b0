"""The first trail of each of many connections, as `dnstrail enrich` asks for them."""

from __future__ import annotations

from msgspec import Struct
from msgspec.structs import replace

from dnstrail.captured import Process
from dnstrail.dns.names import address_text
from dnstrail.image import Trail
from dnstrail.image.binding.bindings import Binding
from dnstrail.protocol.lookups import ConnectionTo, TrailManyRequest
from dnstrail_cache.lookups.open_connections import moment_of
from dnstrail_cache.state.cache_state import CacheState

RIVALS = 4  #: other questions of one connection in a reply to `trail_many` -> the others are left out
AT_ONCE = 0.005  # seconds for one reply: events and other requests wait meanwhile


class KnownProcess(Struct, frozen=True, omit_defaults=True):
    """A process; unknown fields are left out."""

    id: int = 0
    name: str = ""
    executable: str = ""
    container_id: str = ""
    container_name: str = ""


class FirstTrail(Struct, frozen=True, omit_defaults=True):
    """The likeliest trail of a connection; unknown fields are left out.

    `dns_root`, `state` and `scope` are those of the trail. `bound` states how the connection was bound to the question
    (docs/use/lookups.md). `rivals` contains the questions of the next trails. Trails of reverse records are left out:
    an address is no name of itself. `process` made the connection, and `asked_by` asked the question last. `history` is
    false if the cache no longer knows everything about the time.
    """

    dns_root: str = ""
    state: str = ""
    scope: str = ""
    bound: str = ""
    rivals: list[str] = []
    process: KnownProcess | None = None
    asked_by: KnownProcess | None = None
    history: bool = True


def first_trails(request: TrailManyRequest, state: CacheState) -> list[FirstTrail]:
    """Return the first trails of the connections, in their order, until the time for one reply is over."""
    at = state.moment(request.at, request.at_ns)
    until = state.clock.monotonic() + AT_ONCE
    found: list[FirstTrail] = []
    for to in request.connections:
        found.append(_first_trail(to, moment_of(to, at, state), state))
        if state.clock.monotonic() >= until:
            break
    return found


def _first_trail(to: ConnectionTo, at: int | None, state: CacheState) -> FirstTrail:
    image, address = state.image, address_text(to.address) or ""
    connection = replace(to.connection, host=to.host) if to.host else to.connection
    trails = image.trails(address, connection, now=state.now, at=at, limit=RIVALS + 1)
    binding = image.binder.find(address, connection, state.now if at is None else at)
    known = at is None or image.remembers(at, connection)
    process = None if binding is None else _known(binding.opening.process)
    found = [one for one in ([] if trails is None else trails.trails) if one.dns_root != address]
    if not found:
        return FirstTrail(process=process, history=known)
    first, *others = found
    return FirstTrail(
        dns_root=first.dns_root,
        state=first.state,
        scope=first.scope,
        bound=_bound(binding, first.dns_root, state.now if at is None else at),
        rivals=[*dict.fromkeys(one.dns_root for one in others if one.dns_root != first.dns_root)],
        process=process,
        asked_by=_asker(first),
        history=known,
    )


def _bound(binding: Binding | None, name: str, at: int) -> str:
    meaning = None if binding is None else binding.meant(at)
    return meaning.by if meaning is not None and meaning.name == name else ""


def _asker(trail: Trail) -> KnownProcess | None:
    if not trail.asked or not trail.asked[0].process_id:
        return None
    last = trail.asked[0]
    return KnownProcess(last.process_id, last.process_name, last.executable, last.container_id)


def _known(process: Process | None) -> KnownProcess | None:
    if process is None or not process.pid:
        return None
    return KnownProcess(process.pid, process.name, process.path, process.container_id, process.container_name)
