"""Whatever happens to workers, cache and probe: each event is handled by a worker of the group, or counted as lost."""

from __future__ import annotations

from itertools import accumulate

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dnstrail_signatures.group import share
from model.group_world import World

OF_WORKERS = ["kill", "leave", "freeze", "thaw", "slow", "fast"]
OF_CACHE = ["stop cache", "start cache", "freeze cache", "thaw cache", "fill cache", "clear cache"]
STEPS = st.one_of(
    st.tuples(st.sampled_from(["begin", "restart probe"])),
    st.tuples(st.sampled_from(OF_WORKERS), st.integers(0, 3)),
    st.tuples(st.sampled_from(OF_CACHE)),
)
STORIES = st.lists(st.tuples(STEPS, st.sampled_from([0.0, 0.2, 0.6, 1.0, 2.0, 4.0, 12.0, 25.0])), max_size=10)
MOST_SECONDS = 60
BEGIN, RESTART, KILL = ("begin",), ("restart probe",), ("kill", 0)
STOP, START, FREEZE = ("stop cache",), ("start cache",), ("freeze cache",)
FOUND = {  # each has left events behind that nobody counted
    "the next worker begins 25 s later": [(KILL, 25)],
    "the next worker begins while the dead one counts as living": [(KILL, 0.2), (RESTART, 0.6)],
    "the next worker begins while the cache is away": [(STOP, 0), (KILL, 0), (BEGIN, 12)],
    "so it does, and the probe restarts": [(KILL, 0), (STOP, 0), (BEGIN, 0), (RESTART, 12)],
    "the next worker dies before it has taken over": [(KILL, 2), (BEGIN, 0.2), (RESTART, 0), (BEGIN, 0.6), (KILL, 0)],
    "an epoch of the cache before": [(BEGIN, 0), (KILL, 0.2), (STOP, 4), (START, 1.2), (KILL, 0)],
    "an heir of all before dies before it has reported": [
        *((FREEZE, 12), (START, 25), (KILL, 2), (STOP, 12), (START, 25), (("fill cache",), 2), (BEGIN, 3), (KILL, 2)),
    ],
    "the cache is saved before the next worker has taken over": [(RESTART, 0), (KILL, 4), (BEGIN, 0.2), (STOP, 0)],
    "a new cache knows nothing of a dead one": [(BEGIN, 4), (STOP, 0), (("kill", 1), 25), (START, 4)],
    "a dead one is expected to handle a start": [(BEGIN, 4), (KILL, 0), (RESTART, 2), (KILL, 0)],
    "a worker is stopped at the beginning of a start": [(RESTART, 0), (STOP, 0.2), (("freeze", 0), 12)],
    "a share begins after the end of another one": [(BEGIN, 1), (BEGIN, 2), (FREEZE, 1), (KILL, 12)],
    "two go on alone": [(("leave", 0), 0), (FREEZE, 0), (RESTART, 0), (BEGIN, 0.6), (BEGIN, 4)],
    "a dead one renews its membership": [(FREEZE, 1), (KILL, 0), (RESTART, 0), (BEGIN, 12)],
    "a member has not received a start that began while the cache was away": [
        *((BEGIN, 0.2), (("freeze", 1), 0), (("slow", 0), 2), (STOP, 0.2), (RESTART, 12)),
    ],
    "a worker returns that has not begun with a start": [
        *((("leave", 0), 1), (RESTART, 25), (BEGIN, 0.6), (("freeze", 0), 4)),
    ],
    "a worker leaves that others count, and that has not begun": [(BEGIN, 0), (BEGIN, 1), (("leave", 1), 0.2)],
    "the rest of the first turn comes after its replay": [(("leave", 2), 25)],
    "a refused one does not learn of a death": [(BEGIN, 4), (("fill cache",), 4), (("kill", 1), 25), (("kill", 1), 25)],
}


def act(world, step, *, state):
    """Do one step of a story."""
    name, *number = step
    living = world.living()
    worker = living[number[0] % len(living)] if number and living else None
    if name == "begin" and len(living) < 4:
        world.begin()
    elif name == "restart probe":
        world.restart_probe()
    elif name == "stop cache":
        world.stop_cache()
    elif name == "start cache":
        world.start_cache(state=state)
    elif name in ("freeze cache", "thaw cache"):
        world.cache_frozen = name == "freeze cache"
    elif name in ("fill cache", "clear cache"):
        world.cache_full = name == "fill cache"
    elif worker and name in ("kill", "leave") and (state or worker is not world.workers[0]):
        getattr(worker, name)()
    elif worker and name in ("freeze", "thaw"):
        worker.frozen = name == "freeze"
    elif worker and name in ("slow", "fast"):
        worker.pace = 2 if name == "slow" else 50


def finish(world, *, state):
    """Let all that is alive go on until it has caught up."""
    world.cache_frozen = world.cache_full = False
    world.start_cache(state=state)
    for worker in world.living():
        worker.frozen, worker.pace = False, 200
    if not world.living():
        world.begin()
    world.run(16)


def unexcused(world):
    """Return whether turns were missed that nobody counts."""
    return len({event[:2] for event in world.missed()}) > world.lost


def beginning(story):
    """Return as much of a story as happens while the probe replays all of it: nobody may know of an older start."""
    ends = accumulate(seconds for _, seconds in story)
    return [step for step, end in zip(story, ends, strict=True) if end <= MOST_SECONDS]


def tell(story, *, state):
    """Let a story happen to a group that has handled events for some seconds."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(share, "time", (world := World()).clock)
        world.begin()
        world.run(4)
        world.published.clear()  # a group without a member before begins with the present
        for step, seconds in story:
            act(world, step, state=state)
            world.run(seconds)
        finish(world, state=state)
    return world


@pytest.mark.parametrize("state", [True, False], ids=["state", "no state"])
@settings(max_examples=settings.default.max_examples // 3)  # a story takes as long as some thousand events
@given(STORIES)
def test_each_event_is_handled_or_counted(state, story):
    """Workers begin, end, die, freeze and are slow; probe and cache restart. Without state one worker lives on."""
    world = tell(beginning(story), state=state)
    assert not unexcused(world)
    assert not world.repeated()


@pytest.mark.parametrize("state", [True, False], ids=["state", "no state"])
@pytest.mark.parametrize("story", FOUND.values(), ids=FOUND)
def test_no_event_is_left_behind(story, state):
    """Stories in which events were neither handled nor counted."""
    world = tell(story, state=state)
    assert not world.missed()
    assert not world.repeated()


def test_turns_that_no_probe_replays_are_counted():
    """Two workers go on alone after the only one has left; the probe ends before they learn of it."""
    world = tell([(FREEZE, 0), (("leave", 0), 0), (RESTART, 0), (BEGIN, 4), (BEGIN, 0), (RESTART, 0.6)], state=True)
    assert world.lost == len({turn for _, turn, _ in world.missed()}) == 16
