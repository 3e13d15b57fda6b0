"""The metrics of the cache (docs/reference/metrics.md)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from ipaddress import ip_address

from prometheus_client.core import Metric

from dnstrail.captured import Flow
from dnstrail.dns.names import V4_MAPPED
from dnstrail.image.bounds import SECOND
from dnstrail.metrics.board import Observe
from dnstrail.metrics.families import build_info, counter, counters, gauge, histograms, one_of
from dnstrail.metrics.histogram import Histogram
from dnstrail.protocol.batches import TURN
from dnstrail_cache.losses import SKIPPED
from dnstrail_cache.state.cache_state import CacheState
from dnstrail_cache.state.health import SILENT, STATUSES, WAITING

#: resolvers with times of their own -> the times of the resolver with the fewest responses count as `other`
MOST_RESOLVERS = 16
OTHER = "other"
_RCODES = {0: "NOERROR", 2: "SERVFAIL", 3: "NXDOMAIN", 5: "REFUSED"}  # RFC 1035, section 4.1.1
_WAITED = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0)  # s, as in OpenTelemetry
_OUTCOMES = (
    "query",
    "other_query",
    "question_count",
    "class",
    "opcode",
    "multicast",
    "bad_message",
    "no_answer",
    "not_admitted",
    SKIPPED,
    "related",
    "unrelated",
)
_EVICTED = ("roots", "relations", "owned", "server_names")
_UNMATCHED = ("query", "wrong_server", "late", "early", "repeated")
_VERDICTS = ("matched", "copies", "unmatched_accepted", "unmatched_rejected")
_TEXTS = {
    "dnstrail_events": "Events that the cache applied.",
    "dnstrail_lost": "Events that this worker lost, by hop.",
    "dnstrail_messages": "DNS messages by outcome.",
    "dnstrail_evicted": "Evictions by kind.",
    "dnstrail_admission": "Responses by verdict.",
    "dnstrail_admission_unmatched": "Unmatched responses by reason.",
    "dnstrail_requests": "Requests by outcome.",
}


class Resolvers:
    """The times of the resolvers that answer most, each by its address; a table of at most MOST_RESOLVERS.

    A further resolver takes the place of the one with the fewest responses, whose times are added to those of all
    others. A process that asks many servers therefore displaces no resolver that is in use.
    """

    def __init__(self) -> None:
        self.answered: Counter[bytes] = Counter()  # responses by the packed address of each resolver in the table
        self._times: dict[tuple[bytes, str], Histogram] = {}
        self._others: dict[str, Histogram] = {}

    def observe(self, flow: Flow, rcode: int, waited: int) -> None:
        """Note a response that reached the sender of its query `waited` ns after the query."""
        meant = flow.meant if flow.socket and not flow.egress and flow.meant else flow.source
        resolver = meant.removeprefix(V4_MAPPED)
        if resolver not in self.answered and len(self.answered) >= MOST_RESOLVERS:
            self._replace_least()
        self.answered[resolver] += 1
        key = resolver, _RCODES.get(rcode, OTHER)
        if key not in self._times:
            self._times[key] = Histogram(_WAITED)
        self._times[key].observe(max(waited, 0) / SECOND)

    def times(self) -> Iterator[tuple[tuple[str, str], Histogram]]:
        """Yield the times by rcode and resolver; `other` stands for all resolvers that are not in the table."""
        for (resolver, rcode), times in self._times.items():
            yield (rcode, _text(resolver)), times
        for rcode, times in self._others.items():
            yield (rcode, OTHER), times

    def _replace_least(self) -> None:
        least = min(self.answered, key=self.answered.__getitem__)
        del self.answered[least]
        for rcode in (*_RCODES.values(), OTHER):
            times = self._times.pop((least, rcode), None)
            if times is not None:
                self._others.setdefault(rcode, Histogram(_WAITED)).add(times)


def _text(packed: bytes) -> str:
    return str(ip_address(packed)) if len(packed) in (4, 16) else "unknown"


def observe(begin: Observe, state: CacheState) -> None:
    """Begin to observe a cache."""
    resolvers = Resolvers()
    state.image.on_response = resolvers.observe
    begin(lambda: cache_metrics(state, resolvers), lambda: unready(state))


def unready(state: CacheState) -> str:
    """Return why the cache is not ready: it hears no probe. A cache whose probes have all ended is ready."""
    status = state.status
    return f"probes: {status}" if status in (WAITING, SILENT) else ""


def cache_metrics(state: CacheState, resolvers: Resolvers) -> list[Metric]:
    """Return all metrics."""
    return [
        build_info("cache"),
        *_flow(state),
        *_image(state),
        *_admission(state),
        *_lookups(state),
        *_dns(state, resolvers),
    ]


def _flow(state: CacheState) -> list[Metric]:
    lost = {
        "bus": state.lost_on_bus.total() - state.follower.lost[TURN],
        "cache": state.image.counters[SKIPPED],
        "decoder": state.image.counters["bad_message"],
    }
    return [
        _counters("dnstrail_events", "event", state.applied),
        _counters("dnstrail_lost", "hop", lost),
        one_of(
            "dnstrail_probes_status", "Status of the probes: 1 for the present one.", "status", STATUSES, state.status
        ),
        gauge("dnstrail_probes", "Starts of probes that are heard.", len(state.probes) - len(state.silent_probes)),
        counter(
            "dnstrail_probes_vanished",
            "Probes that stopped without their last turn.",
            state.counters["probes_vanished"],
        ),
        gauge("dnstrail_lag_seconds", "Time by which the cache is behind its probes.", state.lag),
    ]


def _image(state: CacheState) -> list[Metric]:
    held, bounds, counts = state.image_counters, state.image.bounds, state.admission_counters
    evicted = {kind: held.get(f"evicted_{kind}", 0) for kind in _EVICTED}
    evicted |= {"doubts": counts.get("evicted_doubts", 0), "queries": counts.get("pending_full", 0)}
    return [
        gauge("dnstrail_image_roots", "Query roots held.", held["roots"]),
        gauge("dnstrail_image_roots_limit", "Bound on query roots.", bounds.size),
        gauge("dnstrail_image_relations", "Relations held.", held["relations"]),
        gauge("dnstrail_image_relations_limit", "Bound on relations.", bounds.most_relations),
        _counters("dnstrail_messages", "outcome", {name: held.get(name, 0) for name in _OUTCOMES}),
        counter("dnstrail_answers", "Admitted answers that stated relations.", held.get("related", 0)),
        counter("dnstrail_answer_conflicts", "Second answers without a common target.", held.get("answer_conflict", 0)),
        _counters("dnstrail_evicted", "kind", evicted),
    ]


def _admission(state: CacheState) -> list[Metric]:
    counts = state.admission_counters
    reasons = {reason: counts.get(f"unmatched_{reason}", 0) for reason in _UNMATCHED}
    return [
        _counters("dnstrail_admission", "verdict", {name: counts.get(name, 0) for name in _VERDICTS}),
        _counters("dnstrail_admission_unmatched", "reason", reasons),
    ]


def _lookups(state: CacheState) -> list[Metric]:
    text = "Time from a request to its reply, by operation."
    times = [((operation,), times) for operation, times in state.answering.items()]
    return [
        _counters("dnstrail_requests", "outcome", state.counters),
        histograms("dnstrail_lookup_duration_seconds", text, ["op"], times),
    ]


def _dns(state: CacheState, resolvers: Resolvers) -> list[Metric]:
    text = "Time from a query to its response, by rcode and address of the resolver."
    return [
        histograms("dnstrail_dns_lookup_duration_seconds", text, ["rcode", "server"], resolvers.times()),
        counter("dnstrail_unanswered", "Queries without a response.", state.admission_counters.get("unanswered", 0)),
    ]


def _counters(name: str, label: str, values: Mapping[str, float]) -> Metric:
    return counters(name, _TEXTS[name], label, values)
