"""The log on the engine that an address names."""

from __future__ import annotations

import time

from dnstrail_fleet.log.contract import FleetLog
from dnstrail_fleet.log.engine_address import KAFKA, EngineAddress


def open_log(address: EngineAddress) -> FleetLog:
    """Return the log on an engine. It connects at the first call.

    Raises:
        SettingsError: The CA cannot be used, or the client is not installed.
    """
    if address.scheme == KAFKA:
        from dnstrail_fleet.log.kafka_log import KafkaLog  # noqa: PLC0415 - one of two

        return KafkaLog(address, time.monotonic)
    from dnstrail_fleet.log.valkey_log import ValkeyLog  # noqa: PLC0415

    return ValkeyLog(address, time.monotonic)


def open_stored(address: EngineAddress) -> FleetLog:
    """Return the log on an engine as the signatures read it. It connects at the first call.

    Raises:
        SettingsError: The CA cannot be used, or the client is not installed.
    """
    if address.scheme == KAFKA:
        from dnstrail_fleet.log.stored_kafka_entries import StoredKafkaEntries  # noqa: PLC0415 - as above

        return StoredKafkaEntries(address, time.monotonic)
    from dnstrail_fleet.log.stored_entries import StoredEntries  # noqa: PLC0415

    return StoredEntries(address, time.monotonic)
