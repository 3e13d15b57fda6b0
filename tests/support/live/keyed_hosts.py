"""Two hosts that publish over CURVE to a cache or another subscriber on this one: one is honest, the other hostile."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import dnstrail_cache.worker
from dnstrail.bus import Publisher, RemoteHost, Server, ZmqBus
from dnstrail.bus.ends import RequesterEnd
from dnstrail.bus.ipc import lookups_address
from dnstrail.bus.keys import CLIENTS, SERVERS, allow, load_keys, new_pair
from dnstrail.bus.remote_host import key_digest, start_of
from dnstrail.image import Bounds
from dnstrail.process.clock import Clock, SystemClock
from dnstrail.protocol.batches import TURN, Batch, Turn, encode
from dnstrail.protocol.replays import replay_address
from live.ports import free_port
from live.workers import BOUND, Asker, Probe, asker, running, short_folder, wait_until

HONEST, HOSTILE = "honest", "hostile"
_ADDRESSES = {HONEST: "127.0.0.1", HOSTILE: "127.0.0.2"}


class KeyedHost:
    """A host with a key of its own, which publishes over CURVE to the host with the keys `central`."""

    def __init__(self, folder: Path, central: str, name: str) -> None:
        public = new_pair(folder / name)
        allow(folder / name, CLIENTS, "central", central)
        allow(folder / "central", SERVERS, _ADDRESSES[name], public, name)
        self.remote = RemoteHost(key_digest(public), name)
        self.start = start_of(self.remote.key, "start")
        self.address = f"tcp://{_ADDRESSES[name]}:{free_port(_ADDRESSES[name], 2)}"
        self.bus = ZmqBus(load_keys(folder / name))
        self.publisher: Publisher = self.bus.publisher(self.address, lossless=False)
        self.replays: Server = self.bus.server(replay_address(self.address))

    def probe(self, clock: Clock | None = None) -> Probe:
        """Return a live probe of this host."""
        return Probe(self.publisher, self.start, live=True, clock=clock)

    def send(self, *messages: Turn | tuple[str, Batch]) -> None:
        """Publish messages, whatever they state."""
        for message in messages:
            topic, body = (TURN, message) if isinstance(message, Turn) else message
            self.publisher.publish(topic, encode(body))


class KeyedHosts:
    """The honest and the hostile host, and the keys of their subscriber."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.central = folder / "central"
        public = new_pair(self.central)
        self.honest, self.hostile = (KeyedHost(folder, public, name) for name in (HONEST, HOSTILE))

    @property
    def addresses(self) -> list[str]:
        """The addresses at which the hosts publish; the hostile one comes first."""
        return [self.hostile.address, self.honest.address]

    def await_subscribers(self, topic: str = TURN) -> None:
        """Wait until both hosts have a subscriber."""
        for host in (self.honest, self.hostile):
            wait_until(lambda host=host: host.publisher.subscribers(topic), "the subscription")

    @contextmanager
    def cache(
        self, bounds: Bounds | None = None, state_file: Path | None = None
    ) -> Iterator[tuple[Asker, list[RequesterEnd]]]:
        """Run a cache that follows both hosts. Yields a client, and the ends at which the cache asks for replays."""
        began, replays = threading.Event(), list[RequesterEnd]()

        def target(bus: ZmqBus, stop: threading.Event) -> None:
            server = bus.server(lookups_address(self.folder))
            subscriber = bus.subscriber(self.addresses, dnstrail_cache.worker.TOPICS)
            if state_file is not None:
                replays.extend(bus.requester(replay_address(address)) for address in self.addresses)
            dnstrail_cache.worker.run(
                bus,
                subscriber,
                server,
                SystemClock(),
                bounds or Bounds(),
                stop,
                observe=lambda _: began.set(),
                state_file=state_file,
                replays=replays,
            )

        with running(target, load_keys(self.central)), asker(lookups_address(self.folder)) as client:
            assert began.wait(BOUND)
            self.await_subscribers()
            yield client, replays

    def close(self) -> None:
        """Close the buses of both hosts."""
        for host in (self.honest, self.hostile):
            host.bus.close(now=True)


@contextmanager
def keyed_hosts() -> Iterator[KeyedHosts]:
    """Make both hosts, in a folder that is removed at the end."""
    with short_folder() as folder:
        hosts = KeyedHosts(folder)
        try:
            yield hosts
        finally:
            hosts.close()
