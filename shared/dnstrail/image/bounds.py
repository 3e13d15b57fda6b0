"""The bounds of the image (docs/limits.md)."""

from __future__ import annotations

from typing import Final

import msgspec

_RELATIONS: Final = 1 << 17  # in all at least
_RELATIONS_A_ROOT: Final = 26
SECOND: Final = 1_000_000_000  # ns


class Bounds(msgspec.Struct, frozen=True):
    """The bounds of the image.

    `size` bounds the query roots, and `relations` the relations of all roots; 0 selects a bound that fits `size`.
    `owned` bounds the relations of one root, and of one answer. `nodes` bounds the names and addresses of one result,
    and `walked` the relations that one lookup reads. A relation is live for `grace` seconds past its TTL. A live source
    holds it for `history` seconds after that. `connections` bounds the open connections, `questions` the questions that
    wait for one, and `processes` the pids whose processes are known. `probes` bounds the starts of probes that are
    followed, and so the hosts.
    """

    size: int = 5000
    grace: float = 60.0
    history: float = 300.0
    relations: int = 0
    owned: int = 4096
    nodes: int = 4096
    walked: int = 65536
    connections: int = 32768
    questions: int = 32768
    processes: int = 32768
    probes: int = 1024

    @property
    def most_relations(self) -> int:
        """Return the bound on all relations."""
        return self.relations or max(_RELATIONS, _RELATIONS_A_ROOT * self.size)

    @property
    def grace_ns(self) -> int:
        """Return the grace in nanoseconds."""
        return round(self.grace * SECOND)

    @property
    def history_ns(self) -> int:
        """Return the history in nanoseconds."""
        return round(self.history * SECOND)
