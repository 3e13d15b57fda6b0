"""The first trail of a connection, as a reply to `trail_many` contains it. It is not compiled: as `result.py`."""

from __future__ import annotations

from msgspec import Struct

from dnstrail.captured import Process
from dnstrail.connection import Connection
from dnstrail.image.image import Image
from dnstrail.image.trails.first import find_first


class KnownProcess(Struct, frozen=True, omit_defaults=True):
    """A process; unknown fields are left out."""

    id: int = 0
    name: str = ""
    executable: str = ""
    container_id: str = ""
    container_name: str = ""
    container_image: str = ""
    unit: str = ""
    slice: str = ""
    container_labels: dict[str, str] = {}


class FirstTrail(Struct, frozen=True, omit_defaults=True):
    """The likeliest trail of a connection; unknown fields are left out.

    `dns_root`, `state` and `scope` are those of the trail. `bound` states how the connection was bound to the question
    (docs/use/lookups.md). `rivals` contains the questions of the next trails. Trails of reverse records are left out:
    an address is no name of itself. `process` made the connection, and `asked_by` asked the question last. `history` is
    false if something about the time is no longer known.
    """

    dns_root: str = ""
    state: str = ""
    scope: str = ""
    bound: str = ""
    rivals: list[str] = []
    process: KnownProcess | None = None
    asked_by: KnownProcess | None = None
    history: bool = True


def first_trail(
    image: Image, address: str, connection: Connection, *, now: int, at: int | None, whole: bool = True
) -> FirstTrail:
    """Return the first trail to an address in canonical form, as `Image.trails` would return it.

    `whole` is False if something about the time is unknown to the caller.
    """
    moment = now if at is None else at
    binder, store = image.binder, image.store
    asked, host = binder.identified(connection, moment), connection.host or ""
    binding = binder.find(address, asked, moment)
    meaning = None if binding is None or not binding.meant(moment).name else binding.meant(moment)
    found = find_first(
        image.view(now=now, at=at, host=host),
        image.held(now, at, host),
        store.places.roots,
        address,
        image.bounds.nodes,
        asked,
        image.server_names,
        meaning,
    )
    process = None if binding is None else _known(binding.opening.process)
    history = whole and (at is None or image.remembers(at, connection))
    if found is None:
        return FirstTrail(process=process, history=history)
    bound = meaning.by if meaning is not None and meaning.name == found.name else ""
    return FirstTrail(found.name, found.state, found.scope, bound, found.rivals, process, _known(found.asker), history)


def _known(process: Process | None) -> KnownProcess | None:
    if process is None or not process.pid:
        return None
    return KnownProcess(
        process.pid,
        process.name,
        process.path,
        process.container_id,
        process.container_name,
        process.container_image,
        process.unit,
        process.slice,
        dict(process.container_labels),
    )
