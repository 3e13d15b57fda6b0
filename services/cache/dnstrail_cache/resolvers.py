"""The times of resolvers: how long senders of queries waited for responses, by resolver and rcode."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from ipaddress import ip_address

from dnstrail.captured import Flow
from dnstrail.dns.names import V4_MAPPED
from dnstrail.image.bounds import SECOND
from dnstrail.metrics.histogram import Histogram

#: resolvers with times of their own -> the times of the resolver with the fewest responses count as `other`
MOST_RESOLVERS = 16
OTHER = "other"
_RCODES = {0: "NOERROR", 2: "SERVFAIL", 3: "NXDOMAIN", 5: "REFUSED"}  # RFC 1035, section 4.1.1
_WAITED = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0)  # s, as in OpenTelemetry


class Resolvers:
    """The times of the resolvers that answer most, each by its address; a table of at most MOST_RESOLVERS.

    A further resolver takes the place of the one with the fewest responses, whose times are added to those of all
    others. A process that asks many servers therefore displaces no resolver that is in use.
    """

    def __init__(self) -> None:
        self.answered: Counter[bytes] = Counter()  # responses by the packed address of each resolver in the table
        self._times: dict[tuple[bytes, str], Histogram] = {}
        self._others: dict[str, Histogram] = {}

    def note(self, flow: Flow, rcode: int, waited: int) -> None:
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
