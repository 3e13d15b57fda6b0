"""A log on Kafka, over TLS: the topic `dnstrail.rows.HOST` of each host, and one group of readers, by librdkafka."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

import structlog

from dnstrail.errors import SettingsError
from dnstrail_fleet.log.contract import LogUnavailableError, StreamEntry, StreamLag
from dnstrail_fleet.log.engine_address import EngineAddress
from dnstrail_fleet.log.engine_client import AWAY, CERTIFICATE, NO_DISK, NO_REPLICAS, PASSWORD, PERMISSION, trusting

PREFIX: Final = "dnstrail.rows."
GROUP: Final = "dnstrail"
#: hosts whose topics a store reads -> those of further hosts wait: `hosts_left_out` in the log
MOST_HOSTS: Final = 1_024
#: entries of a partition that wait for a later version of the store -> the oldest is given up, and counts as `trimmed`
MOST_KEPT: Final = 1_024
PATIENCE: Final = 2.0  # seconds for a reply
_DEAD: Final = 10_000  # ms without a sign of life after which another reader gets the partitions of a reader
_LOOK: Final = 5.0  # seconds between two looks for new topics
_WAIT: Final = 0.05  # seconds for entries
_FETCHED: Final = 64  # kB of a partition that wait in memory; one entry may be larger
_MECHANISM: Final = "SCRAM-SHA-512"
_NO_TOPIC: Final = ("topic", "make the topic of this host")
_REASONS: Final = {  # by the name of an error of librdkafka
    "_SSL": CERTIFICATE,
    "_AUTHENTICATION": PASSWORD,
    "SASL_AUTHENTICATION_FAILED": PASSWORD,
    "TOPIC_AUTHORIZATION_FAILED": PERMISSION,
    "GROUP_AUTHORIZATION_FAILED": PERMISSION,
    "UNKNOWN_TOPIC_OR_PART": _NO_TOPIC,
    "_UNKNOWN_TOPIC": _NO_TOPIC,
    "NOT_ENOUGH_REPLICAS": NO_REPLICAS,
    "KAFKA_STORAGE_ERROR": NO_DISK,
}


class _Partition:
    """The entries of a partition that were read and are not acknowledged, by their offsets."""

    def __init__(self, begin: int) -> None:
        self.next = begin  # the offset of the next entry
        self._again = begin  # those before were read before
        self._kept: dict[int, None] = {}  # in their order

    @property
    def is_stored(self) -> bool:
        """Whether all that was read is acknowledged."""
        return not self._kept

    @property
    def begin(self) -> int:
        """The offset at which the next reader is to begin."""
        return next(iter(self._kept), self.next)

    def note_read(self, offset: int) -> tuple[bool, int]:
        """Note an offset; return whether it was read before, and how many entries are lost."""
        lost = max(0, offset - self.next)
        self.next = offset + 1
        self._kept[offset] = None
        if len(self._kept) > MOST_KEPT:
            del self._kept[self.begin]
            lost += 1
        return offset < self._again, lost

    def note_stored(self, offset: int) -> None:
        """Note an offset that is acknowledged."""
        self._kept.pop(offset, None)

    def read_again(self) -> int:
        """Return the offset from which all is read again."""
        begin = self.begin
        self._again = max(self._again, self.next)
        self.next = begin
        self._kept.clear()
        return begin


class KafkaLog:
    """The log of one process. It connects at the first call, and anew after an error.

    Each partition has one reader. Ten seconds after its death another one begins where the dead one had acknowledged
    all before. An entry that a reader leaves out of an acknowledgement comes to the next reader. The time of an entry
    is that of the engine if its topic has `message.timestamp.type=LogAppendTime`.
    """

    def __init__(
        self, address: EngineAddress, monotonic: Callable[[], float], *, group: str = GROUP, **settings: object
    ) -> None:
        """Make a client; `settings` of librdkafka replace those of the address.

        Raises:
            SettingsError: The CA cannot be used, or the client is not installed.
        """
        try:
            import confluent_kafka  # noqa: PLC0415 - an extra
        except ImportError as error:
            raise SettingsError("the client of Kafka is missing: pip install 'dnstrail[kafka]'") from error
        self.left_out = 0  # topics beyond MOST_HOSTS
        self.repeated = 0  # the cluster loses nothing that it acknowledged
        trusting(address.authority, str(address))
        self._kafka: Any = confluent_kafka
        self._address = address
        self._monotonic = monotonic
        self._group = group
        self._settings = {**_settings_of(address), **settings, "log_level": 0, "error_cb": self._note_fault}
        self._fault: Any = None  # the last error of a connection
        self._producer: Any = None
        self._consumer: Any = None
        self._topics: list[str] = []
        self._look = float("-inf")
        self._partitions: dict[tuple[str, int], _Partition] = {}  # by topic and number
        self._trimmed: Counter[str] = Counter()  # by topic
        self._is_stored = True  # what was read last

    def append(self, body: bytes) -> None:
        """Append an entry to the topic of this host.

        Raises:
            LogUnavailableError: The engine did not take it, as far as is known.
        """
        failed: list[Any] = []  # the error, or None
        if self._producer is None:
            limit = int(1000 * PATIENCE)
            own = {"acks": "all", "linger.ms": 0, "message.timeout.ms": limit, "socket.timeout.ms": limit}
            self._producer = self._kafka.Producer({**own, **self._settings})
        try:
            self._producer.produce(PREFIX + self._address.user, body, on_delivery=lambda error, _: failed.append(error))
        except self._kafka.KafkaException as error:
            raise self._unavailable(error.args[0]) from error
        if self._producer.flush(PATIENCE + 1):
            self._producer.purge()
            self._producer.flush(0)
        if failed[0] is not None:
            raise self._unavailable(failed[0])
        self._fault = None

    def read(self, most: int) -> list[StreamEntry]:
        """Return entries that no other reader of the group has, those of a dead reader, and those of a failed write.

        Raises:
            LogUnavailableError: The engine cannot be read.
        """
        try:
            return self._read(most)
        except self._kafka.KafkaException as error:
            raise self._unavailable(error.args[0]) from error

    def acknowledge(self, entries: Iterable[StreamEntry]) -> None:
        """State that entries are stored: nobody receives them again, unless one before them is not stored.

        Raises:
            LogUnavailableError: The engine did not take it: the entries may come again.
        """
        changed: set[tuple[str, int]] = set()
        for entry in entries:
            number, offset = map(int, entry.id.split(":"))
            key = PREFIX + entry.host, number
            if (partition := self._partitions.get(key)) is not None:  # it may be another reader's now
                partition.note_stored(offset)
                changed.add(key)
        begins = [self._kafka.TopicPartition(*key, self._partitions[key].begin) for key in changed]
        try:
            if begins:
                self._consumer.commit(offsets=begins, asynchronous=False)
        except self._kafka.KafkaException as error:
            raise self._unavailable(error.args[0]) from error
        self._is_stored = True

    def lag(self) -> dict[str, StreamLag]:
        """Return the state of each stream that this reader has."""
        waiting: Counter[str] = Counter()
        for (topic, number), partition in self._partitions.items():
            place = self._kafka.TopicPartition(topic, number)
            _, end = self._consumer.get_watermark_offsets(place, cached=True)
            waiting[topic] += max(0, end - partition.next)
        return {topic.removeprefix(PREFIX): StreamLag(count, self._trimmed[topic]) for topic, count in waiting.items()}

    def close(self) -> None:
        """Close the connections, and leave the group."""
        if self._consumer is not None:
            self._consumer.close()
        if self._producer is not None:
            self._producer.purge()
            self._producer.flush(0)

    def _read(self, most: int) -> list[StreamEntry]:
        if (now := self._monotonic()) >= self._look:
            self._find_topics()
            self._look = now + _LOOK
        if not self._is_stored:
            for (topic, number), partition in self._partitions.items():
                self._consumer.seek(self._kafka.TopicPartition(topic, number, partition.read_again()))
            self._is_stored = True
        found: list[StreamEntry] = []
        for message in self._consumer.consume(most, _WAIT) if self._topics else ():
            if (error := message.error()) is None:
                found += self._entry_of(message)
            elif error.name() not in ("_PARTITION_EOF", "UNKNOWN_TOPIC_OR_PART"):  # a topic that was removed
                raise self._unavailable(error)
        self._is_stored = not found
        return found

    def _entry_of(self, message: Any) -> list[StreamEntry]:
        """Return an entry, unless its partition has just gone to another reader."""
        topic, number, offset = message.topic(), message.partition(), message.offset()
        if (partition := self._partitions.get((topic, number))) is None:
            return []
        is_again, lost = partition.note_read(offset)
        self._trimmed[topic] += lost
        at = max(0, message.timestamp()[1])
        host = topic.removeprefix(PREFIX)
        return [StreamEntry(host, f"{number}:{offset}", at, message.value() or b"", is_again)]

    def _find_topics(self) -> None:
        """Look for topics, and read those that are new."""
        if self._consumer is None:
            own = {"group.id": self._group, "enable.auto.commit": False, "auto.offset.reset": "earliest"}
            # "range" gives the first partition of each topic to one reader.
            own |= {"partition.assignment.strategy": "roundrobin"}
            own |= {"session.timeout.ms": _DEAD, "heartbeat.interval.ms": _DEAD // 5}
            own |= {"queued.max.messages.kbytes": _FETCHED, "queued.min.messages": 1}
            self._consumer = self._kafka.Consumer({**own, **self._settings})
        known = self._consumer.list_topics(timeout=PATIENCE).topics
        self._fault = None
        found = sorted(topic for topic in known if topic.startswith(PREFIX))
        if (left_out := max(0, len(found) - MOST_HOSTS)) > self.left_out:
            structlog.get_logger().warning("hosts_left_out", count=left_out)
        self.left_out = left_out
        if found[:MOST_HOSTS] != self._topics:
            self._topics = found[:MOST_HOSTS]
            self._consumer.subscribe(self._topics, on_assign=self._take, on_revoke=self._leave, on_lost=self._leave)

    def _take(self, consumer: Any, partitions: Sequence[Any]) -> None:
        """Begin to read partitions, where their last reader acknowledged all before."""
        for one in consumer.committed(list(partitions), timeout=PATIENCE):
            self._partitions[one.topic, one.partition] = _Partition(max(0, one.offset))

    def _leave(self, _consumer: Any, partitions: Sequence[Any]) -> None:
        for one in partitions:
            self._partitions.pop((one.topic, one.partition), None)

    def _note_fault(self, error: Any) -> None:
        if self._fault is None or error.name() in _REASONS:  # "all brokers down" follows each other one
            self._fault = error

    def _unavailable(self, error: Any) -> LogUnavailableError:
        """Return what the error of a call means; that of a connection is often the reason of a time-out."""
        self._look = float("-inf")
        reasons = [one for one in (error, self._fault) if one is not None]
        named = (_REASONS[one.name()] for one in reasons if one.name() in _REASONS)
        reason, remedy = next(named, AWAY)
        return LogUnavailableError(str(self._address), reason, f"{error.str()}: {remedy}")


def _settings_of(address: EngineAddress) -> dict[str, object]:
    host = f"[{address.host}]" if ":" in address.host else address.host
    return {
        "bootstrap.servers": f"{host}:{address.port}",
        "client.id": "dnstrail",
        "security.protocol": "SASL_SSL",
        "sasl.mechanism": _MECHANISM,
        "sasl.username": address.user,
        "sasl.password": address.password,
        "ssl.ca.pem": address.authority,
    }
