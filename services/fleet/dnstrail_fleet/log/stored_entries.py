"""The log as the signatures read it: an entry comes once the stores have it, so that a lookup knows its rows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from dnstrail_fleet.log.contract import READERS, StreamEntry
from dnstrail_fleet.log.engine_address import EngineAddress
from dnstrail_fleet.log.valkey_log import DEAD, GROUP, PREFIX, ValkeyLog

#: entries that a signature worker holds until a store has them -> it reads no further
MOST_HELD: Final = 1_024


class StoredEntries(ValkeyLog):
    """The log of one signature worker.

    Invariant: no entry is held as long as another reader takes to claim it. It comes again instead.
    """

    def __init__(self, address: EngineAddress, monotonic: Callable[[], float], *, dead: int = DEAD) -> None:
        """Open a client.

        Raises:
            SettingsError: The CA cannot be used, or the client is not installed.
        """
        super().__init__(address, monotonic, dead=dead, group=READERS)
        self._held: list[tuple[float, StreamEntry]] = []  # each with the time until which it is held

    def _read(self, most: int) -> list[StreamEntry]:
        now = self._monotonic()
        self._held = [(until, one) for until, one in self._held if until > now]
        found = self._take_stored(most)
        if not found and len(self._held) < MOST_HELD:
            until = now + self._dead / 2000
            self._held += [(until, one) for one in super()._read(most)]
            found = self._take_stored(most)
        return found

    def _take_stored(self, most: int) -> list[StreamEntry]:
        """Take entries that a store has."""
        waiting = self._not_stored() if self._held else set()
        found = [one for _, one in self._held if (one.host, one.id) not in waiting][:most]
        taken = {(one.host, one.id) for one in found}
        self._held = [(until, one) for until, one in self._held if (one.host, one.id) not in taken]
        return found

    def _not_stored(self) -> set[tuple[str, str]]:
        """Return the held entries that no store has acknowledged yet, by host and id.

        An entry is stored once it was delivered to the group of the stores and is not pending there. It is asked in
        this order: an entry that is delivered in between counts as not stored.
        """
        ids: dict[str, list[tuple[int, int]]] = {}
        for _, one in self._held:
            ids.setdefault(one.host, []).append(_order(one.id))
        delivered = self._delivered([*ids])
        pipeline = self._client.pipeline(transaction=False)
        for host in delivered:
            first, last = (f"{at}-{number}" for at, number in (min(ids[host]), max(ids[host])))
            pipeline.xpending_range(PREFIX + host, GROUP, first, last, MOST_HELD)
        stored_until: dict[str, tuple[int, int]] = {}
        pending: dict[str, set[tuple[int, int]]] = {}
        for host, found in zip(delivered, pipeline.execute(), strict=True):
            unacknowledged = [_order(one["message_id"].decode()) for one in found]
            stored_until[host] = min([delivered[host], *unacknowledged[MOST_HELD - 1 :]])
            pending[host] = {*unacknowledged}
        return {
            (one.host, one.id)
            for _, one in self._held
            if _order(one.id) > stored_until.get(one.host, (0, 0)) or _order(one.id) in pending[one.host]
        }

    def _delivered(self, hosts: list[str]) -> dict[str, tuple[int, int]]:
        """Return the last entry of each host that a store received; a host is left out before a store knows it."""
        pipeline = self._client.pipeline(transaction=False)
        for host in hosts:
            pipeline.xinfo_groups(PREFIX + host)
        return {
            host: _order(group["last-delivered-id"].decode())
            for host, groups in zip(hosts, pipeline.execute(), strict=True)
            for group in groups
            if group["name"] == GROUP.encode()
        }


def _order(number: str) -> tuple[int, int]:
    """Return the place of an entry in its stream."""
    at, _, count = number.partition("-")
    return int(at), int(count)
