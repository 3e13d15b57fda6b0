"""The events of one batch in wire form: each process and each container once, and each event decoded on demand."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from typing import Any, Generic, Protocol, TypeVar, overload

import msgspec

from dnstrail.captured import Captured, Flow, Labels, Process
from dnstrail.container import is_roots
from dnstrail.errors import BadMessage

_NOBODY = -1  # the index of an event without a process


class _Known(msgspec.Struct, frozen=True, gc=False):
    """An object that was seen, its index in the table of processes, and its thread."""

    process: Process | None
    index: int
    thread: int


class WireProcess(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A process, and the index of its container: -1 for a process of the host."""

    process: Process
    container: int = _NOBODY


class WireEvent(msgspec.Struct, frozen=True, array_like=True):
    """An event. `process` is an index of the table of processes, -1 if the process is unknown."""

    process: int
    timestamp: int
    payload: bytes = b""
    flow: Flow | None = None
    args: dict[str, Any] = {}
    processor: int = 0
    thread: int = 0


class _Head(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The part of an event by which it can be skipped."""

    process: int


class _Stamped(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The part of an event that has its time."""

    process: int
    timestamp: int


class _Addressed(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The part of an event by which its client is known."""

    process: int
    timestamp: int
    payload: bytes = b""
    flow: Flow | None = None


class ActorFilter(Protocol):
    """The actors whose events are wanted: containers, processes or clients."""

    def owns_process(self, process: Process) -> bool:
        """Return whether the events of a process are wanted."""

    def owns_client(self, flow: Flow | None, payload: bytes) -> bool:
        """Return whether an event without a process is wanted."""


E = TypeVar("E")  # an event: msgspec.Raw if it is decoded when it is read, or one that is decoded with its batch
Row = tuple[WireEvent, Process | None]
_Named = tuple[str, str, str]  # id, name, image
_NO_LABELS: Labels = ()


class WireEvents(msgspec.Struct, Generic[E], frozen=True, array_like=True):
    """Events, and what they share: containers (id, name, image), and processes without thread and container.

    `labels` has those of each container; it is empty if none has a label.
    """

    containers: list[_Named]
    processes: list[WireProcess]
    events: list[E]
    labels: list[Labels] = []


def refuse_extension(code: int, _data: memoryview) -> None:
    """Refuse an extension type of MessagePack.

    Raises:
        ValueError: always.
    """
    raise ValueError(f"extension type {code} is not supported")


_ENCODE = msgspec.msgpack.Encoder().encode
_DECODE = msgspec.msgpack.Decoder(WireEvent, ext_hook=refuse_extension).decode
_HEAD = msgspec.msgpack.Decoder(_Head).decode
_DECODE_STAMPED = msgspec.msgpack.Decoder(_Stamped).decode
_DECODE_ADDRESSED = msgspec.msgpack.Decoder(_Addressed).decode


class BatchTable:
    """Events in wire form (`events`), as a batch collects them. `size` counts their bytes, the tables included.

    `probe` is the start to which the ids of facts refer.
    """

    def __init__(self, events: Iterable[Captured] = (), probe: str = "") -> None:
        self.probe = probe
        self.size = len(probe)
        self.events: list[msgspec.Raw] = []
        self._processes: dict[Process, int] = {}
        self._containers: dict[tuple[_Named, Labels], int] = {}
        self._shown: list[_Named] = []  # the containers in wire form, some named later
        self._labels: list[Labels] = []  # of each container
        self._wire: list[WireProcess] = []
        self._known: dict[int, _Known] = {}  # by the id of the object that each holds
        for event in events:
            self.add(event)

    def __len__(self) -> int:
        return len(self.events)

    def add(self, event: Captured, most: float = float("inf")) -> bool:
        """Add an event; return False if it contains what MessagePack cannot hold, or makes `size` exceed `most`."""
        process = event.process
        try:
            known = self._known.get(id(process)) or self._note(process)
            encoded = _ENCODE(
                (known.index, event.timestamp, event.payload, event.flow, event.args, event.processor, known.thread)
            )
        except (TypeError, ValueError, OverflowError):
            return False
        size = self.size + len(encoded)
        if size > most:
            return False
        self.size = size
        self.events.append(msgspec.Raw(encoded))
        return True

    @property
    def nameless(self) -> list[str]:
        """The ids of the containers without a name."""
        return [container for container, name, _ in self._shown if container and not name]

    def name_containers(self, name_of: Callable[[str], tuple[str, str, Labels]], most: int) -> None:
        """Give the containers without a name what `name_of` returns, as long as `size` stays below `most`.

        These are name, image and labels by id.
        """
        for place, (container, name, _) in enumerate(self._shown):
            if container and not name:
                shown, image, labels = name_of(container)
                named = container, shown, image
                size = self.size + _size(named, labels) - _size(self._shown[place], self._labels[place])
                if size <= most:
                    self.size, self._shown[place], self._labels[place] = size, named, labels

    @property
    def wire(self) -> WireEvents[msgspec.Raw]:
        """The events as they are encoded."""
        return WireEvents(self._shown, self._wire, self.events, self._labels if any(self._labels) else [])

    def _note(self, process: Process | None) -> _Known:
        """Note the object of a process, and return its index and thread."""
        if process is None:
            known = _Known(None, _NOBODY, 0)
        else:
            base = msgspec.structs.replace(process, thread_id=0) if process.thread_id else process
            index = self._processes.get(base)
            known = _Known(process, self._add_process(base) if index is None else index, process.thread_id)
        self._known[id(process)] = known
        return known

    def _add_process(self, process: Process) -> int:
        index = self._processes[process] = len(self._processes)
        container, labels = _container_of(process), process.container_labels
        bare = msgspec.structs.replace(
            process, container_id="", container_name="", container_image="", container_labels=_NO_LABELS
        )
        entry = WireProcess(bare, self._container(container, labels) if any(container) else _NOBODY)
        self._wire.append(entry)
        self.size += len(_ENCODE(entry))
        return index

    def _container(self, container: _Named, labels: Labels) -> int:
        known = container, labels
        if known not in self._containers:
            self._containers[known] = len(self._containers)
            self._shown.append(container)
            self._labels.append(labels)
            self.size += _size(container, labels)
        return self._containers[known]


class ReceivedEvents(Sequence[Captured]):
    """The events of a batch that was received. One that is not decoded yet is decoded when it is read.

    It raises BadMessage then if it is bad. Events of one thread share the object of their process.
    """

    def __init__(self, wire: WireEvents[msgspec.Raw] | WireEvents[WireEvent]) -> None:
        self._raw: Sequence[Any] = wire.events
        self._threads: dict[tuple[int, int], Process] = {}  # by the index of the process, and the thread
        try:
            self._processes = [_joined(entry, wire) for entry in wire.processes]
        except IndexError as error:
            raise BadMessage("bad batch: no such container") from error

    def __len__(self) -> int:
        return len(self._raw)

    @overload
    def __getitem__(self, at: int) -> Captured: ...
    @overload
    def __getitem__(self, at: slice) -> list[Captured]: ...
    def __getitem__(self, at: int | slice) -> Captured | list[Captured]:
        return [self._decoded(raw) for raw in self._raw[at]] if isinstance(at, slice) else self._decoded(self._raw[at])

    def __iter__(self) -> Iterator[Captured]:
        return map(self._decoded, self._raw)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and [*self] == [*other]

    def __hash__(self) -> int:
        return hash(len(self))

    def rows(self) -> list[Row]:
        """Return each event as the batch states it, with its process, if all were decoded with the batch.

        Raises:
            BadMessage: the process of an event is not in the table.
        """
        known, found = self._threads, self._process_of
        return [(event, known.get((event.process, event.thread)) or found(event)) for event in self._raw]

    def stamps(self) -> list[int]:
        """Return the time stamp of each event (ns).

        Raises:
            BadMessage: an event is bad.
        """
        try:
            return [_DECODE_STAMPED(raw).timestamp for raw in self._raw]
        except (msgspec.DecodeError, ValueError, RecursionError) as error:
            raise BadMessage(f"bad event: {error}") from error

    def select(self, origins: Container[str], actors: ActorFilter | None = None) -> list[tuple[int, Captured]]:
        """Return the places and events whose origin ("host" or "container") and whose actor are wanted.

        The others are not decoded; of an event without a process, the flow alone.
        """
        unwanted = {index for index, process in enumerate(self._processes) if _origin(process) not in origins}
        if "host" not in origins:
            unwanted.add(_NOBODY)
        if actors is not None:
            unwanted.update(index for index, process in enumerate(self._processes) if not actors.owns_process(process))
        elif not unwanted:
            return [*enumerate(self)]
        try:
            return [
                (place, self._decoded(raw))
                for place, raw in enumerate(self._raw)
                if (process := _HEAD(raw).process) not in unwanted
                and (process >= 0 or actors is None or actors.owns_client(*_client_of(raw)))
            ]
        except (msgspec.DecodeError, ValueError, RecursionError) as error:
            raise BadMessage(f"bad event: {error}") from error

    def _decoded(self, raw: msgspec.Raw | WireEvent) -> Captured:
        event, process = self._row(raw)
        return Captured(event.timestamp, event.payload, event.flow, process, event.args, event.processor)

    def _row(self, raw: msgspec.Raw | WireEvent) -> Row:
        try:
            event = raw if isinstance(raw, WireEvent) else _DECODE(raw)
        except (msgspec.DecodeError, ValueError, RecursionError) as error:
            raise BadMessage(f"bad event: {error}") from error
        return event, self._threads.get((event.process, event.thread)) or self._process_of(event)

    def _process_of(self, event: WireEvent) -> Process | None:
        """Return the process of an event, from now on the same object for all events of its thread."""
        index, thread = event.process, event.thread
        if index < 0:
            return None
        if index >= len(self._processes):
            raise BadMessage("bad event: no such process")
        process = msgspec.structs.replace(self._processes[index], thread_id=thread)
        self._threads[index, thread] = process
        return process


def _origin(process: Process) -> str:
    return "container" if is_roots(process.container_id) else "host"


def _client_of(raw: msgspec.Raw) -> tuple[Flow | None, bytes]:
    event = _DECODE_ADDRESSED(raw)
    return event.flow, event.payload


def _container_of(process: Process) -> _Named:
    return process.container_id, process.container_name, process.container_image


def _size(container: _Named, labels: Labels) -> int:
    """Return the bytes of a container in its batch."""
    return len(_ENCODE(container)) + len(_ENCODE(labels))


def _joined(entry: WireProcess, wire: WireEvents[Any]) -> Process:
    """Return a process with its container."""
    place = entry.container
    if place < 0:
        return entry.process
    name, shown, image = wire.containers[place]
    labels = wire.labels[place] if wire.labels else _NO_LABELS
    return msgspec.structs.replace(
        entry.process, container_id=name, container_name=shown, container_image=image, container_labels=labels
    )
