"""The names of connections against the naive model: any processes, threads, questions and connections."""

from __future__ import annotations

from typing import NamedTuple

from hypothesis import given, settings
from hypothesis import strategies as st

from builders.binding_helpers import Host
from builders.dns_builders import t
from dnstrail.captured import Process
from model.naive_binding import NaiveBinding, Question

ADDRESSES = ("192.0.2.1", "192.0.2.2")
GRACE = 60


class Step(NamedTuple):
    """A question or a connection of a thread of a process."""

    asks: bool
    process: int
    thread: int
    addresses: frozenset[str]
    after: int  # ms since the step before
    slow: int  # ms until the answer


steps = st.builds(
    Step,
    st.booleans(),
    st.sampled_from([0, 0, 0, 1, 2, 3]),
    st.integers(0, 1),
    st.sampled_from([ADDRESSES[:1], ADDRESSES[:1], ADDRESSES[1:], ADDRESSES]).map(frozenset),
    st.sampled_from([1, 1, 1, 200, 50_000]),
    st.sampled_from([0, 3, 90]),
)
# Process 1 is a child of process 0, and process 3 has the pid of process 2, which has ended by its start.
PIDS, PARENTS, STARTS = (70, 71, 72, 72), (1, 70, 1, 1), (-9, -8, -7, 0)


def process(number: int, thread: int = 0) -> Process:
    return Process(
        PIDS[number], parent_pid=PARENTS[number], thread_id=1000 * number + thread + 1, start_time=t(STARTS[number])
    )


@settings(max_examples=3 * settings.default.max_examples)
@given(st.lists(steps, min_size=5, max_size=25))
def test_connections_mean_what_the_model_says(taken):
    """Each connection means the name that the model derives from all that was seen before."""
    host, model, now = Host(grace=GRACE), NaiveBinding(parents={(71, t(-8)): (70, t(-9))}), 0
    for number, step in enumerate(taken):
        now += step.after
        who, at, name = process(step.process, step.thread), now / 1000, f"n{number}"
        identity = who.pid, who.start_time
        if step.asks:
            host.asks(at, name, *sorted(step.addresses), by=who, answered=step.slow / 1000, ttl=5)
            times = t(at), t(at + step.slow / 1000), t(at + step.slow / 1000 + 5 + GRACE)
            model.questions.append(Question(name, identity, who.thread_id, *times, step.addresses))
        else:
            address = min(step.addresses)
            expected = model.connect(t(at), identity, who.thread_id, address)
            assert host.opens(at, address, who) == expected
