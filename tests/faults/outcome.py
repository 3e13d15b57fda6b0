"""The outcome of a fault: a row of the table, and the promises that it broke."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

COLUMNS = (
    "fault",
    "recovery",
    "sent",
    "received",
    "lost and counted",
    "lookups",
    "not answered",
    "findings missing",
    "twice",
)


@dataclass(frozen=True)
class Outcome:
    """The measured values of one fault.

    `counted` events are those that the counters of the pipeline report as lost. A probe that `vanished` counts for all
    that it had not sent. `counted_findings` are the events and findings that signature workers, and the worker of
    findings, report as lost; `lost_turns` count for the events of turns that no worker could take over. `several_ids`
    counts events with findings of different ids, and `not_found` findings whose lookup found no name. `stuck` states
    that no lookup was answered for long, although the cache ran. `broken` holds what the fault itself found wrong.
    """

    fault: str
    recovery: float
    sent: int
    received: int
    counted: int
    vanished: int
    asked: int
    failed: int
    stuck: bool
    missing: int
    counted_findings: int
    lost_turns: int
    twice: int
    several_ids: int
    not_found: int
    broken: tuple[str, ...] = ()

    @property
    def lost(self) -> int:
        """The events that were sent and not received."""
        return self.sent - self.received

    @property
    def whole(self) -> bool:
        """Whether nothing is missing."""
        return not self.lost and not self.missing

    @property
    def arrived(self) -> tuple[int, int]:
        """How much has arrived: it changes while something is on its way."""
        return self.received, self.missing

    @property
    def faults(self) -> list[str]:
        """The promises that did not hold."""
        promises = {
            f"{self.lost} events lost, {self.counted} counted": self.lost <= self.counted or self.vanished,
            f"{-self.lost} events more received than sent": self.lost >= 0,
            "lookups were not answered, although the cache ran": not self.stuck,
            f"{self.missing} findings missing, {self.counted_findings} counted": (
                self.missing <= self.counted_findings or self.vanished or self.lost_turns
            ),
            f"{self.several_ids} events with findings of several ids": not self.several_ids,
            f"{self.not_found} names not found by a signature after their event": not self.not_found,
        }
        return [*self.broken, *(broken for broken, holds in promises.items() if not holds)]

    def row(self) -> str:
        """Return the row of the table."""
        counters = {
            "": self.lost <= self.counted,
            " by `probes_vanished`": self.lost > self.counted and self.vanished,
            " NOT COUNTED": self.lost > self.counted and not self.vanished,
        }
        cells = (
            self.fault,
            f"{self.recovery:.1f} s",
            f"{self.sent:,}",
            f"{self.received:,}",
            f"{self.lost:,}" + next(how for how, holds in counters.items() if holds),
            f"{self.asked:,}",
            f"{self.failed:,}",
            f"{self.missing:,}",
            f"{self.twice:,}",
        )
        return f"| {' | '.join(cells)} |"


def heading() -> str:
    """Return the heading of the table."""
    return f"| {' | '.join(COLUMNS)} |\n|{'---|' * len(COLUMNS)}"


def together(name: str, outcomes: Sequence[Outcome]) -> Outcome:
    """Return the sums of some outcomes, and their longest recovery."""
    if len(outcomes) == 1:
        return outcomes[0]
    values = {one.name: [getattr(outcome, one.name) for outcome in outcomes] for one in fields(Outcome)}
    sums = {key: sum(found) for key, found in values.items() if key not in {"fault", "broken", "recovery", "stuck"}}
    return Outcome(
        fault=f"{name}, {len(outcomes)} times",
        recovery=max(values["recovery"]),
        stuck=any(values["stuck"]),
        broken=sum(values["broken"], ()),
        **sums,
    )
