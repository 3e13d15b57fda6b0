"""What explains a finding: the likeliest path to its address or name, the rivals of this path, and what to run next."""

from __future__ import annotations

import shlex
import time
from collections import Counter
from collections.abc import Callable
from typing import Annotated, Any

import msgspec

from dnstrail.client import LookupClient
from dnstrail.dns.names import address_text
from dnstrail.errors import DataNotFound, DataSourceError, Unavailable
from dnstrail_findings.cause import Cause
from dnstrail_findings.finding import Mark, ReceivedFinding, timestamp

MOST_PATHS = 4  #: paths of a trail in a finding -> the likeliest are kept
REST = 10.0  #: seconds without a lookup after one that no cache answered -> findings have no trail: `unexplained`
#: seconds for the lookup of a finding -> after a slower one findings have no trail for as long as it took:
#: `unexplained`
SLOW = 0.05
PATIENCE = 0.5  # seconds for a cache that is behind the event


class _Step(msgspec.Struct):
    owner: str
    kind: str
    target: str


class _Path(msgspec.Struct):
    dns_root: str
    state: str
    scope: str
    rival: bool
    reasons: list[str]
    steps: list[_Step]


class _Trails(msgspec.Struct):
    trails: Annotated[list[_Path], msgspec.Meta(min_length=1)]


class Explainer:
    """Asks the cache for the trail of a finding, as of its event. Without a cache a finding has no trail.

    A cache that does not answer is left alone for REST seconds, and one that is slow for as long as the lookup took, so
    that findings do not pile up: `unexplained` counts the findings meanwhile.
    """

    def __init__(self, lookups: LookupClient | None, monotonic: Callable[[], float] = time.monotonic) -> None:
        self.counters: Counter[str] = Counter(unexplained=0)
        self._lookups = lookups
        self._monotonic = monotonic
        self._quiet_until = float("-inf")

    def explain(self, finding: ReceivedFinding) -> None:
        """Add `trail` and `next` to what explains a finding."""
        key = _key(finding.cause)
        finding.explained["trail"] = self._trail(finding, key) if key else None
        finding.explained["next"] = _next(finding, key)

    def _trail(self, finding: ReceivedFinding, key: str) -> dict[str, Any] | None:
        mark = finding.shape.mark
        if self._lookups is None or mark is None:
            return None
        began = self._monotonic()
        if began < self._quiet_until:
            self.counters["unexplained"] += 1
            return None
        rest = 0.0
        try:
            found = _ask(self._lookups, finding, key, mark)
            return _likeliest(key, msgspec.convert(found, _Trails))
        except DataNotFound:
            return None
        except (DataSourceError, msgspec.ValidationError) as error:
            rest = REST if isinstance(error, Unavailable) else 0.0
            self.counters["unexplained"] += 1
            return None
        finally:
            ended = self._monotonic()
            took = ended - began
            self._quiet_until = ended + max(rest, took if took > SLOW else 0.0)


def _ask(lookups: LookupClient, finding: ReceivedFinding, key: str, mark: Mark) -> Any:
    return lookups.ask(
        "trail",
        after=[(mark.start, mark.turn)],
        patience=PATIENCE,
        key=key,
        event=(mark.start, mark.time),
        limit=MOST_PATHS,
        **_connection(finding),
    )


def _key(cause: Cause) -> str:
    """Return the address to which a cause leads, else the name that was asked, else ""."""
    if cause.message is None:
        return address_text(cause.server.address) or ""
    found = next((answer.ip for answer in cause.message.answers if answer.ip), "")
    return found or (cause.escaped(cause.question.name) if cause.question else "")


def _connection(finding: ReceivedFinding) -> dict[str, Any]:
    shape, client = finding.shape, finding.cause.client
    port = 0 if finding.cause.message else finding.cause.server.port
    known = {
        "process": shape.process_id,
        "container": shape.container.id,
        "client": address_text(client.address),
        "port": port,
    }
    return {name: value for name, value in known.items() if value}


def _likeliest(key: str, found: _Trails) -> dict[str, Any]:
    first, *others = found.trails
    steps = first.steps
    path = " ".join([steps[0].owner, *(f"{step.kind} {step.target}" for step in steps)]) if steps else key
    return {
        "key": key,
        "path": path,
        "dns_root": first.dns_root,
        "state": first.state,
        "scope": first.scope,
        "reasons": first.reasons,
        "rivals": [*dict.fromkeys(other.dns_root for other in others if other.rival)],
    }


def _next(finding: ReceivedFinding, key: str) -> list[str]:
    """Return commands that show more about a finding."""
    shape, question = finding.shape, finding.cause.question
    at = f"--at {timestamp(shape.timestamp)}"
    process = f" --connection process={shape.process_id}" if shape.process_id else ""
    commands = [f"dnstrail trail {shlex.quote(key)} {at}{process}"] if key else []
    name = finding.cause.escaped(question.name) if question else ""
    if name and name != key:
        commands.append(f"dnstrail get {shlex.quote(name)} {at}")
    return commands
