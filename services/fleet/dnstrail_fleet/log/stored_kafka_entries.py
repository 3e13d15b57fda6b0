"""The log on Kafka as the signatures read it: an entry comes once the stores have it and all before it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

from dnstrail_fleet.log.contract import READERS, StreamEntry
from dnstrail_fleet.log.engine_address import EngineAddress
from dnstrail_fleet.log.kafka_log import GROUP, PATIENCE, KafkaLog

_CHECK: Final = 0.1  # seconds between two looks at what the stores have


class StoredKafkaEntries(KafkaLog):
    """The log of one signature worker.

    Invariant: a partition pauses at the first entry that no store has. An entry of a later version, which the stores
    leave to later ones, holds up those behind it in its partition.
    """

    def __init__(self, address: EngineAddress, monotonic: Callable[[], float], **settings: object) -> None:
        """Make a client; `settings` of librdkafka replace those of the address.

        Raises:
            SettingsError: The CA cannot be used, or the client is not installed.
        """
        super().__init__(address, monotonic, group=READERS, **settings)
        self._stores: Any = None  # a client that reads nothing: it asks how far the stores are
        self._stored: dict[tuple[str, int], int] = {}  # the first offset that no store has, by topic and number
        self._paused: dict[tuple[str, int], int] = {}  # the offset at which each paused partition goes on
        self._check = float("-inf")

    def close(self) -> None:
        """Close the connections, and leave the group."""
        super().close()
        if self._stores is not None:
            self._stores.close()

    def _read(self, most: int) -> list[StreamEntry]:
        if self._paused and (now := self._monotonic()) >= self._check:
            self._resume()
            self._check = now + _CHECK
        # An entry that was not handled comes again, also if others of the same read were.
        self._is_stored = all(one.is_stored for one in self._partitions.values())
        return super()._read(most)

    def _entry_of(self, message: Any) -> list[StreamEntry]:
        key, offset = (message.topic(), message.partition()), message.offset()
        if key not in self._partitions or key in self._paused:
            return []
        if offset >= self._stored.get(key, 0):
            self._paused[key] = offset
            place = self._kafka.TopicPartition(*key, offset)
            self._consumer.pause([place])
            self._consumer.seek(place)
            return []
        return super()._entry_of(message)

    def _resume(self) -> None:
        """Go on with the partitions of which the stores have more now."""
        if self._stores is None:
            self._stores = self._kafka.Consumer({"group.id": GROUP, **self._settings})
        places = [self._kafka.TopicPartition(*key) for key in self._paused]
        for one in self._stores.committed(places, timeout=PATIENCE):
            key = one.topic, one.partition
            if one.offset > self._paused[key]:
                self._stored[key] = one.offset
                del self._paused[key]
                self._consumer.resume([one])

    def _leave(self, consumer: Any, partitions: Sequence[Any]) -> None:
        super()._leave(consumer, partitions)
        for one in partitions:
            self._paused.pop((one.topic, one.partition), None)
            self._stored.pop((one.topic, one.partition), None)
