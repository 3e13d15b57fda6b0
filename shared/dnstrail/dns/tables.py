"""Tables whose steps are all short: the recent entries within a bound, and names in parts."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain
from typing import TYPE_CHECKING, Final, Generic, TypeVar

if TYPE_CHECKING:
    from mypy_extensions import i64

K = TypeVar("K")
V = TypeVar("V")
# A part of a million names has less than 2^16 slots, so that their indices take two bytes. The number is a prime: the
# low bits of a hash select the slot in a part, and must differ between the names of a part.
# The hash is in an i64 wherever a part is chosen: half of all hashes do not fit in mypyc's own short integers.
PARTS: Final = 251


class Recent(Generic[K, V]):
    """The entries that were added last: at least `half`, and at most twice as many.

    They are in two halves. When the young half is full, it replaces the old one. Each new entry then drops two
    entries of replaced halves: thousands at once take milliseconds.
    """

    __slots__ = ("_half", "_old", "_replaced", "_young")

    def __init__(self, half: int) -> None:
        self._half = half
        self._young: dict[K, V] = {}
        self._old: dict[K, V] = {}
        self._replaced: list[dict[K, V]] = []

    def __len__(self) -> int:
        return len(self._young) + len(self._old)

    def get(self, key: K) -> V | None:
        """Return the value of a key, or None."""
        value = self._young.get(key)
        return self._old.get(key) if value is None else value

    def add(self, key: K, value: V) -> bool:
        """Add an entry, and return whether the old half was replaced for it."""
        full = len(self._young) >= self._half
        if full:
            self.replace()
        self._young[key] = value
        if self._replaced:
            self._drop_two()
        return full

    def replace(self) -> None:
        """Replace the old half by the young one; an empty one is young then."""
        if self._old:
            self._replaced.append(self._old)
        self._old, self._young = self._young, {}

    def _drop_two(self) -> None:
        """Drop two entries of the replaced halves, if there are any."""
        for _ in range(2):
            if self._replaced:
                half = self._replaced[-1]
                half.popitem()
                if not half:
                    self._replaced.pop()


class Shards(Generic[V]):
    """A dict by name, in `parts` by the hash of the name. A dict grows in one step, which is short for a part."""

    __slots__ = ("parts",)

    def __init__(self) -> None:
        self.parts: list[dict[str, V]] = [{} for _ in range(PARTS)]

    def get(self, name: str) -> V | None:
        """Return the value of a name, or None."""
        digest: i64 = hash(name)
        return self.parts[digest % PARTS].get(name)

    def __getitem__(self, name: str) -> V:
        digest: i64 = hash(name)
        return self.parts[digest % PARTS][name]

    def __delitem__(self, name: str) -> None:
        digest: i64 = hash(name)
        del self.parts[digest % PARTS][name]

    def __contains__(self, name: object) -> bool:
        digest: i64 = hash(name)
        return name in self.parts[digest % PARTS]

    def __len__(self) -> int:
        return sum(map(len, self.parts))

    def __iter__(self) -> Iterator[str]:
        return chain.from_iterable(self.parts)
