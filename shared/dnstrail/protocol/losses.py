"""The losses that sources count, by the hop at which they happen."""

from __future__ import annotations

# Counters of a source that tell of what it never saw or had no room for -> the hop at which it was lost.
LOSSES = {
    "ring_full": "kernel",
    "socket_full": "kernel",
    "unreadable": "kernel",
    "tcp_evicted": "probe",
    "fragment_evicted": "probe",
    "dnstap_not_accepted": "probe",
    "dnstap_too_many_writers": "probe",
    "dnstap_bad_stream": "probe",
    "dnstap_cut_short": "probe",
}
