"""A rule without code: a table `[[watch]]` of the settings file (docs/use/watch.md)."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Annotated, Any, Literal

import msgspec

from dnstrail.events import OUTCOMES, Event
from dnstrail.protocol.facts import HOPS
from dnstrail_signatures.loading.scope import Entry, Only, suffix_of

MOST_RULES = 64  #: rules `[[watch]]` -> the settings are refused
_CLIENT, _FORWARDER, _SERVED = HOPS
_Stated = Annotated[tuple[Entry, ...], msgspec.Meta(min_length=1)]  # an empty list would match everything


class WatchRule(Only, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A table `[[watch]]`. A transaction has to match each key that is stated.

    Invariant: suffixes are in the form of lookups, users are ids, and at least one key limits the rule.
    """

    name: Entry  #: name of the rule, which no other rule has: `rule` in its findings
    suffixes: _Stated = ()  #: these names and the names below them, also if only an alias leads there
    file: Entry = ""  #: file of further suffixes, one on each line
    origin: Literal["container", "host"] | None = None  #: container: only askers in containers; host: only others
    outcomes: _Stated = ()  #: only these outcomes of a `dns_transaction`
    #: only these hops of a `dns_transaction`; default: client and served. `client` covers a forwarder without `for`
    hops: _Stated = ("client", "served")
    #: only the first transaction of each registered domain, by host, by container, or by program
    first_seen: Literal["host", "container", "program"] | None = None
    #: seconds from the first match of the rule in which `first_seen` only learns
    learn: Annotated[float, msgspec.Meta(ge=0, le=1e9)] = 0

    def __post_init__(self) -> None:
        """Read users and suffixes, and refuse what would never match, or always.

        Raises:
            ValueError: a value matches nothing, or no key limits the rule.
        """
        Only.__post_init__(self)
        _check(self.outcomes, OUTCOMES, "outcome")
        _check(self.hops, HOPS, "hop")
        if not any(self._limits()):
            raise ValueError("no key limits the rule: every transaction would match")
        if {*self.hops} == {_SERVED} and (self._of_process() or self.origin == "container"):
            raise ValueError("a served client has no process here: nothing would match")
        if self.learn and self.first_seen is None:
            raise ValueError("learn has no effect without first_seen")
        msgspec.structs.force_setattr(self, "suffixes", tuple(map(suffix_of, self.suffixes)))

    def _of_process(self) -> bool:
        return any((self.containers, self.images, self.programs, self.users, self.units))

    def _limits(self) -> tuple[object, ...]:
        return self._of_process(), self.suffixes, self.file, self.origin, self.outcomes, self.first_seen

    @property
    def has_suffixes(self) -> bool:
        """Whether the rule is limited to suffixes."""
        return bool(self.suffixes or self.file)

    def matches(self, event: Event, args: Mapping[str, Any]) -> bool:
        """Return whether a transaction with these arguments matches each key but the suffixes and `first_seen`."""
        return (
            self._includes_hop(args["hop"], args.get("for"))
            and (not self.outcomes or args["outcome"] in self.outcomes)
            and (self.origin is None or event.origin == self.origin)
            and self.includes(event)
        )

    def _includes_hop(self, hop: str, asked_for: str | None) -> bool:
        if hop in self.hops:
            return True
        return _CLIENT in self.hops and hop == _FORWARDER and not asked_for


class TakesRules(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Settings of a signature to which the rules of the settings file belong."""

    watch: tuple[WatchRule, ...] = ()


def _check(stated: Collection[str], known: Collection[str], kind: str) -> None:
    if unknown := sorted({*stated}.difference(known)):
        raise ValueError(f"{unknown[0]!r} is no {kind}; known: {', '.join(known)}")
