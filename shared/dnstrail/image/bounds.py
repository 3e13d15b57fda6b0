"""The bounds of the image (docs/reference/bounds.md), and its counters."""

from __future__ import annotations

from typing import Final

import msgspec

#: relations in all (`--dnscache relations=`), at least; 26 for each root if that is more -> a root is evicted with its
#: answers: `evicted_relations`
_RELATIONS: Final = 1 << 17
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

    size: int = 5000  #: query roots (`--dnscache size=`) -> a root is evicted with its answers: `evicted_roots`
    grace: float = 60.0  #: seconds of the grace beyond the TTL (`--dnscache grace=`) -> the relation is no longer live
    #: seconds of the history beyond the grace (`--dnscache history=`), with a live source -> the record is removed;
    #: until then `at` and trails find it
    history: float = 300.0
    relations: int = 0
    #: relations of one root, and of one answer -> the oldest records of the root are evicted, and the first relations
    #: of the answer count: `evicted_owned`
    owned: int = 4096
    nodes: int = 4096  #: nodes in one result -> `truncated` is true
    #: relations that one lookup reads, or all keys of one `get_many` together -> `truncated` is true
    walked: int = 65536
    #: open connections, and ended ones until the history is over -> the one that ended first is evicted, else the
    #: oldest: `evicted_bindings`
    connections: int = 32768
    #: queries, answers and questions that wait for a connection -> the owner with most evicts its oldest:
    #: `evicted_questions`
    questions: int = 32768
    #: pids whose processes are known -> the one whose process ended first is evicted, else the one least recently
    #: noted: `evicted_processes`
    processes: int = 32768
    #: hosts that the image distinguishes, in doubt or by name (`--probes`) -> all hosts are in doubt together
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


class Counts(dict[str, int]):
    """Counters by name; one that has counted nothing is 0. Unlike Counter it sets an item as fast as a dict."""

    __slots__ = ()

    def __missing__(self, name: str) -> int:
        return 0
