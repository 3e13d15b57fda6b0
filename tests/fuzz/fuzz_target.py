"""An image under fuzzing: no payload raises an exception, and every bound holds."""

from __future__ import annotations

from random import Random

from builders.traffic import KEYS
from dnstrail.captured import Flow
from dnstrail.dns import Message, ServiceBinding
from dnstrail.image import Circumstances, Image
from dnstrail.image.trails.trail import MAX_TRAILS
from dnstrail.settings import UNMATCHED
from model.consistent import assert_consistent
from model.episodes import random_bounds
from model.image_vs_model import assert_well_formed
from model.instants import START, ns

_CLIENTS = (bytes([10, 0, 0, 2]), bytes(10) + b"\xff\xff\x0a\x00\x00\x02", bytes(15) + b"\x01")
_SERVERS = (bytes([10, 0, 0, 53]), bytes([1, 1, 1, 1]), b"")
_STEPS = tuple(map(ns, (0, 0, 0.01, 0.5, 1, 40, -2, -40, 400)))  # of the time of the stream


class FuzzTarget:
    """An image with random bounds, and a stream whose time sometimes jumps."""

    def __init__(self, random: Random) -> None:
        self._random = random
        self._bounds = random_bounds(random)
        self.image = Image(self._bounds, random.choice(UNMATCHED))
        self._now = START
        self._live = random.random() < 0.5

    def feed(self, payload: bytes, message: Message | None) -> None:
        """Feed a payload, sometimes after its own query, then look up some of its names and addresses."""
        random, live = self._random, self._live
        self._now += random.choice(_STEPS)
        client, server = random.choice(_CLIENTS), random.choice(_SERVERS)
        more = {"socket": random.choice((0, 7)), "egress": random.random() < 0.5}
        if message and message.name and random.random() < 0.5:
            asked = payload[:2] + b"\x01\x00" + payload[4:6] + bytes(6) + payload[12:]
            self.image.feed(self._now, asked, Circumstances(Flow(client, 4000, server, 53, **more), live=live))
        flow = Flow(server, 53, client, 4000, **more) if random.random() < 0.9 else None
        foreign = random.choice((None, True, False))
        self.image.feed(self._now, payload, Circumstances(flow, live=live, foreign=foreign))
        for key in self._keys(message):
            self._ask(key)

    def check(self) -> None:
        """Assert the invariants of the image."""
        assert_consistent(self.image, self._bounds)

    def _keys(self, message: Message | None) -> list[str]:
        """Return a common key, or one or two names and addresses of the message."""
        if message is None or not message.answers or self._random.random() < 0.2:
            return [self._random.choice(KEYS)]
        record = self._random.choice(message.answers)
        target = record.target.target if isinstance(record.target, ServiceBinding) else record.target
        return self._random.choice(([message.name], [record.owner, target], [target]))

    def _ask(self, key: str) -> None:
        at = self._now - ns(self._random.choice((1, 50))) if self._random.random() < 0.2 else None
        found = self.image.get(key, at=at)
        if found:
            assert_well_formed(found)
            assert len(found.ip_addresses) + len(found.dns_queries) <= self._bounds.nodes + 2, key
        if self._random.random() < 0.15:
            trails = self.image.trails(key, at=at)
            assert trails is None or len(trails.trails) <= MAX_TRAILS, key
