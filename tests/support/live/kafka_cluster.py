"""The mock cluster of librdkafka in a process of its own: real sockets and the real protocol, no disk."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, TopicPartition

from live.processes import PATIENCE, wait_until

_SERVE = """
import sys
import time
from confluent_kafka import Producer
cluster = Producer({"bootstrap.servers": "127.0.0.1:1", "test.mock.num.brokers": 1, "log_level": 0})
[broker] = cluster.list_topics(timeout=30).brokers.values()
print(broker.port, flush=True)
sys.stdin.read()
"""


class KafkaCluster:
    """A cluster of one broker at a port of this host."""

    def __init__(self, process: subprocess.Popen[str], port: int) -> None:
        self.process = process
        self.port = port

    def read(self, topic: str) -> list[bytes]:
        """Return the messages of a topic: the cluster keeps the last 5 MB of each of its partitions."""
        consumer, partitions = self._consumer(topic)
        found: list[bytes] = []
        ended = set[int]()  # a partition that receives more ends again
        end = time.monotonic() + PATIENCE
        while len(ended) < partitions and time.monotonic() < end:
            for one in consumer.consume(1000, timeout=0.2):
                if one.error():
                    if one.error().code() == KafkaError._PARTITION_EOF:
                        ended.add(one.partition())
                else:
                    found.append(one.value())
        consumer.close()
        return found

    def follow(self, topic: str, stop: threading.Event) -> Iterator[bytes]:
        """Yield the messages of a topic as they arrive, until `stop` is set."""
        consumer, _ = self._consumer(topic)
        while not stop.is_set():
            yield from (one.value() for one in consumer.consume(1000, timeout=0.2) if not one.error())
        consumer.close()

    def _consumer(self, topic: str) -> tuple[Consumer, int]:
        """Return a consumer of all partitions of a topic from their begin, and how many there are."""
        settings = {"bootstrap.servers": f"127.0.0.1:{self.port}", "group.id": "test", "log_level": 0}
        consumer = Consumer({**settings, "enable.partition.eof": True, "auto.offset.reset": "earliest"})
        wait_until(lambda: consumer.list_topics(topic, PATIENCE).topics[topic].partitions, "the topic")
        partitions = consumer.list_topics(topic, PATIENCE).topics[topic].partitions
        consumer.assign([TopicPartition(topic, number, OFFSET_BEGINNING) for number in partitions])
        return consumer, len(partitions)


@contextmanager
def kafka_cluster() -> Iterator[KafkaCluster]:
    """Start a cluster, and end it."""
    with subprocess.Popen(
        [sys.executable, "-c", _SERVE], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        try:
            yield KafkaCluster(process, int(process.stdout.readline()))
        finally:
            process.kill()
