"""The views of `dnstrail top`: of each transaction the name, the process, the resolver, and the failure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from dnstrail.container import container_text
from dnstrail.protocol.facts import is_for_another
from dnstrail_cli.top.frequent import Frequent, Key

if TYPE_CHECKING:
    from dnstrail.events import Event

FAILURES: Final = frozenset({"nxdomain", "refused", "failed", "unanswered"})
_UNTIMED: Final = frozenset({"unanswered", "unknown"})  # without a response
_DNS_PORT: Final = 53
_MILLISECOND: Final = 1_000_000  # ns
COLUMNS: Final = {"lookups": "lookups", "rate": "/s", "failed": "failed", "mean": "mean ms", "slowest": "max ms"}


class TopView(NamedTuple):
    """The lookups by the parts of a key. `key_of` returns the key of a transaction, None if it has no place here."""

    title: str
    parts: tuple[str, ...]
    key_of: Callable[[Event], Key | None]


def _is_for_another(event: Event) -> bool:
    return is_for_another(event.arg("hop"), event.arg("for"))


def _name(event: Event) -> Key | None:
    return None if _is_for_another(event) else (str(event.arg("name")),)


def _process(event: Event) -> Key | None:
    if _is_for_another(event):
        return None
    process = event.process
    container = container_text(process.container_id, process.container_name)
    return (process.name or str(event.arg("src") or ""), container, process.unit)


def _resolver(event: Event) -> Key | None:
    end = "resolver" if event.arg("resolver") else "dst"
    address, port = event.arg(end), event.arg(f"{end}_port")
    if not address:
        return None
    return (str(address) if port in (_DNS_PORT, None) else f"{address} port {port}",)


def _failure(event: Event) -> Key | None:
    outcome = str(event.arg("outcome"))
    return (outcome, str(event.arg("name"))) if outcome in FAILURES and not _is_for_another(event) else None


VIEWS: Final = (
    TopView("names", ("name",), _name),
    TopView("processes", ("process", "container", "unit"), _process),
    TopView("resolvers", ("resolver",), _resolver),
    TopView("failures", ("outcome", "name"), _failure),
)


class Totals:
    """The lookups of all views. Processes of one name, container and unit are one.

    Questions asked for others count once.
    """

    def __init__(self) -> None:
        self.lookups = 0
        self.views: Mapping[str, Frequent] = {view.title: Frequent() for view in VIEWS}

    def add(self, event: Event) -> None:
        """Count a transaction.

        Raises:
            BadMessage: no cache of ours sends it.
        """
        outcome, waited = event.arg("outcome"), event.arg("waited")
        timed = waited if isinstance(waited, int) and outcome not in _UNTIMED else None
        self.lookups += not _is_for_another(event)
        for view in VIEWS:
            key = view.key_of(event)
            if key is not None:
                self.views[view.title][key].add(failed=outcome in FAILURES, waited=timed)

    def tick(self, seconds: float) -> None:
        """State the rates since the last tick, which was so long ago."""
        for frequent in self.views.values():
            frequent.tick(seconds)

    def rows(self, view: TopView) -> dict[str, Any]:
        """Return a view as a map: its rows, the most frequent first, and the lookups of those that left."""
        frequent = self.views[view.title]
        found = [
            dict(zip(view.parts, one.key, strict=True))
            | {"lookups": one.lookups, "failed": one.failed, "rate": round(one.rate, 2)}
            | {"mean_ms": one.mean / _MILLISECOND, "slowest_ms": one.slowest / _MILLISECOND}
            for one in frequent.by("lookups")
        ]
        return {"view": view.title, "rows": found, "left": frequent.left}
