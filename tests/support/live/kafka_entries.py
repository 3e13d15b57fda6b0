"""A log on the mock cluster of librdkafka: what hosts append to it, and what the signatures acknowledged."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import ExitStack, closing
from pathlib import Path

from confluent_kafka import Consumer, Producer, TopicPartition

from dnstrail_fleet.log.contract import READERS
from dnstrail_fleet.log.engine_address import parse_engine
from dnstrail_fleet.log.kafka_log import PREFIX, KafkaLog
from live.certificate import make_certificate
from live.kafka_cluster import KafkaCluster
from live.processes import PATIENCE

PLAIN = {"security.protocol": "plaintext", "session.timeout.ms": 6000, "heartbeat.interval.ms": 1000}
PATCH = f"""
from dnstrail_fleet.log import kafka_log
from dnstrail_fleet.log.stored_kafka_entries import StoredKafkaEntries as Log
settings_of = kafka_log._settings_of
kafka_log._settings_of = lambda address: settings_of(address) | {PLAIN!r}
kafka_log._LOOK = 0.5
"""


class KafkaEntries:
    """A mock cluster, to which any number of logs is open. Its producer writes to the first partition of a topic."""

    patch = PATCH

    def __init__(self, running: KafkaCluster, folder: Path, stack: ExitStack) -> None:
        make_certificate(folder, "engine.test", "127.0.0.1")
        (folder / "password").write_text("secret")
        files = f"ca={folder}/certificate.pem,password={folder}/password"
        self.option = f"kafkas://store@127.0.0.1:{running.port},{files}"
        self._stack = stack
        self._servers = {"bootstrap.servers": f"127.0.0.1:{running.port}", "log_level": 0}
        self._producer = Producer(self._servers)

    def open(self, kind: type[KafkaLog]) -> KafkaLog:
        """Open a log."""
        log = kind(parse_engine(self.option), time.monotonic, **PLAIN)
        return self._stack.enter_context(closing(log))

    def put(self, host: str, *entries: bytes) -> None:
        """Append entries of a host, which a reader receives together."""
        for body in entries:
            self._producer.produce(f"{PREFIX}{host}", body, partition=0)
        assert self._producer.flush(PATIENCE) == 0

    def is_done(self, hosts: Sequence[str]) -> bool:
        """Return whether all entries of hosts are acknowledged by the signatures."""
        places = [TopicPartition(f"{PREFIX}{host}", 0) for host in hosts]
        with closing(Consumer({**self._servers, "group.id": READERS})) as consumer:
            stored = [one.offset for one in consumer.committed(places, timeout=PATIENCE)]
            return stored == [consumer.get_watermark_offsets(one, timeout=PATIENCE)[1] for one in places]
