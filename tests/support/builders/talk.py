"""DNS conversations at sockets: queries and responses by hand, and an image that they are fed to."""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import ip_address
from typing import Any

from msgspec.structs import replace

from builders.dns_builders import A, asked, by_hand, record, t
from dnstrail.captured import Flow, Process
from dnstrail.image import Bounds, Circumstances, FeedOutcome, Image

_QUESTION = b"\xc0\x0c"  # a pointer to the question


def packed(text: str) -> bytes:
    """Return an address as bytes."""
    return ip_address(text).packed


def there(client: str = "10.0.0.2", server: str = "10.0.0.53", port: int = 40000, to: int = 53, **more: Any) -> Flow:
    """Return the flow of a query."""
    return Flow(packed(client), port, packed(server), to, **more)


def back(flow: Flow, **changes: Any) -> Flow:
    """Return the flow of the response at the same socket."""
    way = (flow.destination, flow.destination_port, flow.source, flow.source_port, flow.transport)
    return replace(Flow(*way, flow.socket, flow.namespace, not flow.egress), **changes)


ADDRESSED = there()
OWN = there(socket=7, namespace=1, egress=True)
SERVERS = there(socket=9, namespace=1)
_HOME = back(OWN)


def query(name: str = "a.example", kind: int = A, id_: int = 1, flags: int = 0x0100, klass: int = 1) -> bytes:
    """Return a query; dnspython is slow for thousands."""
    labels = b"".join(bytes([len(label)]) + label.encode() for label in name.split(".")) + b"\x00"
    return id_.to_bytes(2, "big") + by_hand(asked(labels, kind, klass), flags=flags)[2:]


def answer(*addresses: str, name: str = "a.example", kind: int = A, id_: int = 1, ttl: int = 60) -> bytes:
    """Return the response with addresses; with "" it has none."""
    question = query(name, kind)[12:]
    records = [record(_QUESTION, A, packed(text), ttl) for text in addresses or ("192.0.2.1",) if text]
    return id_.to_bytes(2, "big") + by_hand(question, *records)[2:]


def answers(names: Iterable[str], ttl: int = 60) -> Iterable[tuple[str, bytes]]:
    """Yield names, each with an answer of an address of its own."""
    for number, name in enumerate(names):
        yield name, answer(f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}", name=name, ttl=ttl)


class Talk:
    """An image of a live source that lost nothing lately; times are seconds after T. `behind` is that of the image.

    The place of each message is its number.
    """

    behind = False

    def __init__(self, unmatched: str = "auto", *, live: bool = True, **bounds: Any) -> None:
        self.image = Image(Bounds(**bounds), unmatched)
        self.live = live
        self.said = 0
        self.image.gap(t(-100))

    def say(
        self,
        after: float,
        payload: bytes,
        flow: Flow | None,
        cgroup: int = 0,
        pid: int = 0,
        owner: int = 0,
        host: str = "",
        call: bool = False,
        relay: tuple[int, int] | None = None,
    ) -> FeedOutcome:
        """Feed a message of a process, whose cgroup is its party; `call` and `relay` are those of its circumstances."""
        process = Process(pid, cgroup_id=cgroup, owner=owner) if cgroup or pid else None
        circumstances = Circumstances(
            flow, process, live=self.live, asked=call, host=host, behind=self.behind, batch="s/1", relay=relay
        )
        circumstances.place, self.said = self.said, self.said + 1
        return self.image.feed(t(after), payload, circumstances)

    def ask(self, after: float, payload: bytes = query(), flow: Flow | None = OWN, **whose: Any) -> None:
        """Feed a query."""
        assert self.say(after, payload, flow, **whose) == FeedOutcome()

    def hear(self, after: float, payload: bytes = answer(), flow: Flow | None = _HOME, **whose: Any) -> FeedOutcome:
        """Feed a response."""
        return self.say(after, payload, flow, **whose)

    @property
    def waiting(self) -> int:
        """The number of queries that wait."""
        return self.image.admission.queries.waiting

    def counted(self, *names: str) -> list[int]:
        """Return counters of admission."""
        return [self.image.admission.counters[name] for name in names]
