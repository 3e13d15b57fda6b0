"""Lives, times and lookups, sentence by sentence, with results worked out by hand (docs/inside/image.md)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from builders.dns_builders import response_to
from model.instants import START, ns

# A case is a sentence, messages "SECONDS QUESTION: RECORD; RECORD" in the order of arrival, and one lookup
# "? KEY OPTION... -> ROOT | NAMES | ADDRESSES | STATE". A part "-" is not compared.
LIVES = """\
a relation is live before its TTL and its grace
    0 a: a A 1.1.1.1 ttl=10
    ? a at=69 grace=60 -> - | - | - | grace
a relation ends at its TTL and its grace
    0 a: a A 1.1.1.1 ttl=10
    ? a at=70 grace=60 -> nothing
a relation is live by any answer
    0 a: a A 1.1.1.1 ttl=100
    1 a: a A 1.1.1.1 ttl=1
    ? a at=99 -> a | - | - | live
an answer prolongs no relation of another
    0 a: a A 1.1.1.1 ttl=5; a A 1.1.1.2 ttl=50
    4 a: a A 1.1.1.1 ttl=5
    ? a at=9 -> a | - | 1.1.1.2 | -
a relation that stands twice has the longer TTL
    0 a: a A 1.1.1.1 ttl=5; a A 1.1.1.1 ttl=50; a A 1.1.1.1 ttl=9
    ? a at=49 -> a | - | - | live
a lookup without `at` tests expiry alone
    100 a: a A 1.1.1.1 ttl=10
    ? a now=50 -> a | - | - | -
a lookup of a later instant
    0 a: a A 1.1.1.1 ttl=10
    ? a now=10 -> nothing
the clock of a stream never goes back
    100 b: b A 1.1.1.2
    0 a: a A 1.1.1.1 ttl=50
    ? a -> nothing
`at` excludes later sightings
    0 a: a A 1.1.1.1
    5 b: b A 1.1.1.1
    ? 1.1.1.1 at=4 -> a | a | - | -
`at` includes its own instant
    0 a: a A 1.1.1.1
    5 b: b A 1.1.1.1
    ? 1.1.1.1 at=5 -> b | b a | - | -
in a file a late message counts from the latest stamp on
    0 a: a A 1.1.1.1
    9 c: c A 1.1.1.9
    3 b: b A 1.1.1.1
    ? 1.1.1.1 at=8 -> a | a | - | -
of a live source a late message counts from its stamp on
    0 a: a A 1.1.1.1
    9 c: c A 1.1.1.9
    3 b: b A 1.1.1.1
    ? 1.1.1.1 at=8 live -> b | b a | - | -
a newer answer that ended does not order a relation
    0 a: a A 1.1.1.1 ttl=90
    1 a: a A 1.1.1.2 ttl=90
    2 a: a A 1.1.1.1 ttl=1
    ? a now=50 -> a | - | 1.1.1.2 1.1.1.1 | -
"""
LOOKUPS = """\
siblings of an address are not included
    0 a: a A 1.1.1.1; a A 1.1.1.2
    ? 1.1.1.1 -> a | a | 1.1.1.1 | -
up and down of a name
    0 w: w CNAME a; a A 1.1.1.1
    1 v: v CNAME a
    ? a -> v | v a w | 1.1.1.1 | -
the key is the root if it was asked
    0 a: a A 1.1.1.1
    5 w: w CNAME a; a A 1.1.1.1
    ? a -> a | a w | - | -
an answer to the key that ended makes it no root
    0 a: a A 1.1.1.1 ttl=2
    1 w: w CNAME a; a A 1.1.1.1
    ? a now=3 -> w | w a | - | -
another relation of the key's own answer that ended
    0 a: a CNAME b ttl=90; b A 1.1.1.1 ttl=1
    1 w: w CNAME a
    ? a now=5 -> a | - | - | -
the root is the question of the answer that arrived last
    9 a: a A 1.1.1.1
    5 b: b A 1.1.1.1
    ? 1.1.1.1 -> b | b a | - | -
only answers that touch the key give the root
    0 a: a A 1.1.1.1
    5 w: w CNAME a
    ? 1.1.1.1 -> a | a w | - | -
the root comes first where its alias has expired
    0 w: w CNAME a ttl=1; a A 1.1.1.1 ttl=50
    ? a at=10 -> w | w a | - | -
the shortest chain comes next
    0 w: w CNAME b; b CNAME c; w CNAME d; d CNAME e; e CNAME c; c A 1.1.1.1
    ? c -> w | w b c d e | - | -
a name is ordered by the relations that lead to it
    0 w: w CNAME a
    0 v: v CNAME a
    0 a: a A 1.1.1.1
    5 w: w A 2.2.2.2
    ? a -> a | a v w | - | -
names are ordered by their last sighting
    0 w: w CNAME a
    1 v: v CNAME a
    2 w: w CNAME a
    3 a: a A 1.1.1.1
    ? a -> a | a w v | - | -
addresses behind a mail exchange come last
    0 a: a A 1.1.1.1
    9 a: a MX m; m A 1.1.1.9
    ? a -> a | - | 1.1.1.1 1.1.1.9 | -
addresses behind a service binding come first
    0 a: a A 1.1.1.1
    9 a: a HTTPS s; s A 1.1.1.9
    ? a -> a | - | 1.1.1.9 1.1.1.1 | -
an address behind both ways comes first
    0 a: a MX m; m A 1.1.1.9; a A 1.1.1.9; a MX n; n A 1.1.1.8
    ? a -> a | - | 1.1.1.9 1.1.1.8 | -
addresses of one answer keep its order
    0 a: a A 1.1.1.9; a A 1.1.1.1; a A 1.1.1.5
    ? a -> a | - | 1.1.1.9 1.1.1.1 1.1.1.5 | -
PTR names follow all forward names
    0 1.1.1.1.in-addr.arpa PTR: 1.1.1.1.in-addr.arpa PTR p
    0 a: a A 1.1.1.1
    ? 1.1.1.1 -> a | a p | - | -
PTR names alone have no root
    0 1.1.1.1.in-addr.arpa PTR: 1.1.1.1.in-addr.arpa PTR p
    ? p -> "" | p | 1.1.1.1 | live
PTR relations of a name that was resolved are ignored
    0 1.1.1.1.in-addr.arpa PTR: 1.1.1.1.in-addr.arpa PTR p
    0 p: p A 9.9.9.9
    ? p -> p | p | 9.9.9.9 | -
a PTR relation does not lead on
    0 1.1.1.1.in-addr.arpa PTR: 1.1.1.1.in-addr.arpa PTR p
    0 p: p A 9.9.9.9
    ? 9.9.9.9 -> p | p | 9.9.9.9 | -
nothing touches the key
    0 a: a A 1.1.1.1
    ? b -> nothing
the state of a name without address is live
    0 a: a CNAME b ttl=9
    ? a grace=60 -> a | a b | "" | live
the state of a name whose address is in grace
    0 a: a CNAME b ttl=99; b A 1.1.1.1 ttl=9
    ? a now=10 grace=60 -> - | - | - | grace
the state of a name with another address
    0 a: a A 1.1.1.2 ttl=99; a A 1.1.1.1 ttl=9
    ? a now=10 grace=60 -> - | - | - | live
TTL 0 is grace from the first instant
    0 a: a A 1.1.1.1 ttl=0
    ? a grace=60 -> - | - | - | grace
a loop of aliases ends
    0 a: a CNAME b; b CNAME c; c CNAME a
    ? b -> a | a b c | "" | -
"""


@dataclass(frozen=True)
class Spoken:
    """One case; `options` are `at`, `now` (seconds after START), `grace` and `live`."""

    says: str
    messages: tuple[tuple[int, bytes], ...]
    key: str
    options: dict[str, float]
    expected: str

    @property
    def instants(self) -> dict[str, int]:
        """Return `at` or `now`, as given."""
        return {name: START + ns(self.options[name]) for name in ("at", "now") if name in self.options}

    def differs(self, found: dict[str, Any] | None) -> str:
        """Return what is wrong with a result, "" if nothing is."""
        if found is None:
            return "" if self.expected == "nothing" else "not found"
        names, addresses = (" ".join(found[field]) for field in ("dns_queries", "ip_addresses"))
        parts = [found["dns_root"], names, addresses, found["state"]]
        wanted = [part.strip().replace('""', "") for part in self.expected.split("|")]
        alike = len(wanted) == len(parts) and all(one in ("-", part) for one, part in zip(wanted, parts, strict=True))
        return "" if alike else " | ".join(parts)


def message(line: str) -> tuple[int, bytes]:
    """Return stamp and payload of a message "SECONDS QUESTION: RECORD; RECORD"."""
    seconds, _, text = line.strip().partition(" ")
    question, _, records = text.partition(": ")
    return START + ns(float(seconds)), response_to(question, *records.split("; "))


def spoken(text: str) -> Iterator[Spoken]:
    """Yield the cases of a text."""
    says, messages = "", []
    for line in text.splitlines():
        if not line.startswith(" "):
            says, messages = line, []
        elif line.startswith("    ? "):
            asked, _, expected = line.removeprefix("    ? ").partition(" -> ")
            key, *options = asked.split(" ")
            given = dict(option.split("=") if "=" in option else (option, "1") for option in options)
            numbers = {name: float(value) for name, value in given.items()}
            yield Spoken(says, tuple(messages), key, numbers, expected)
        else:
            messages.append(message(line))


SPOKEN = [*spoken(LIVES), *spoken(LOOKUPS)]
