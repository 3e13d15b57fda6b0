"""Random episodes, made from a seed, for an image and its model; a failing episode can be shortened."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from random import Random

from builders.traffic import KEYS, message
from dnstrail.captured import Flow, Process
from dnstrail.image import Bounds
from model.conversations import LOSSES, Said, conversation, recurring
from model.image_vs_model import UNBOUND, ImageAndModel
from model.instants import SECOND, START, ns

AHEAD = tuple(map(ns, (0, 0, 0, 0.5, 1, 4.5, 5, 30, 70, 400)))  # by which the clock advances
LATE = tuple(map(ns, (0, 0, 0, 0, 0.5, 1, 30, 200)))  # by which a packet is late
AGO = tuple(map(ns, (0, 0, 0.5, 1, 5, 20, 60, 90, 300, 1000)))
LONG = 10**9
EVICTIONS = ("evicted_roots", "evicted_owned", "evicted_relations", "evicted_greedy", "evicted_busy")
ADMISSIONS = ("admitted", "rejected", "matched", "doubted", "copy", "conflict", "gaps")
LOOKUPS = ("gets", "get_many", "by_sums", "exact", "forgotten", "at_sum", "at_gap")
REACHED = (*EVICTIONS, *ADMISSIONS, *LOOKUPS, "sweeps")  # the counts that a long run must have


@dataclass(frozen=True)
class Step:
    """One step: the name of a method of ImageAndModel, and its arguments."""

    what: str
    time: int | None = None
    keys: tuple[str, ...] = ()
    payload: bytes = b""
    flow: Flow | None = None
    process: Process | None = None
    host: str = ""

    def take(self, pair: ImageAndModel) -> None:
        """Take the step on both sides."""
        match self.what:
            case "feed":
                pair.feed(self.time or 0, self.payload, flow=self.flow, process=self.process, host=self.host)
            case "gap":
                whose = self.process or Process()
                pair.gap(self.time or 0, self.host, whose.cgroup_id, whose.owner)
            case "sweep":
                pair.sweep()
            case "get":
                pair.get(self.keys[0], self.time)
            case "get_at":
                pair.get_at(self.keys[0], self.time or 0)
            case "get_many":
                pair.get_many(self.keys, now=self.time)
            case "get_many_at":
                pair.get_many(self.keys, at=self.time)


@dataclass(frozen=True)
class Episode:
    """The bounds, the policy of admission, whether packets are live, and the steps."""

    bounds: Bounds
    live: bool
    unmatched: str
    steps: tuple[Step, ...]


def random_bounds(random: Random) -> Bounds:
    """Return bounds that a few names meet in two episodes of five, else none, so that the past is kept longer.

    No root alone can exceed half of all relations.
    """
    grace = random.choice((0.0, 5.0, 60.0))
    if random.random() < 0.6:
        history = random.choice((0.0, 300.0, LONG))
        return Bounds(UNBOUND, grace, history, relations=UNBOUND, owned=UNBOUND)
    relations = random.choice((6, 12, 25, UNBOUND, UNBOUND))
    owned = random.choice((1, 2, 3, 5, 8, UNBOUND, UNBOUND))
    owned = owned if relations == UNBOUND else min(owned, relations // 2)
    return Bounds(
        size=random.choice((2, 3, 4, 5, UNBOUND)),
        grace=grace,
        history=random.choice((300.0, LONG)),
        relations=relations,
        owned=owned,
    )


@dataclass(frozen=True)
class Habits:
    """The choices that hold for one whole episode."""

    ahead: tuple[int, ...]
    late: tuple[int, ...]
    talking: bool
    parties: tuple[Process | None, ...]
    hosts: tuple[str, ...]
    repeating: float


def random_habits(random: Random, bounds: Bounds) -> Habits:
    """Return the habits of an episode.

    A packet is late only where it cannot be due for removal at once. Clients talk only where all targets of an answer
    count, so that it is clear which answers conflict.
    """
    return Habits(
        ahead=random.choice((AHEAD, AHEAD[:6])),
        late=random.choice((LATE, (0,))) if bounds.history else (0,),
        talking=bounds.owned == UNBOUND and random.random() < 0.5,
        parties=random.choice(((None,), (None, *map(_in_cgroup, (1, 1, 1, 2))), _OWNED)),
        hosts=random.choice((("",), ("",), ("", "g", "h", "h"))),
        repeating=random.choice((0.0, 0.0, 0.3, 0.97)),
    )


def random_episode(random: Random, messages: int) -> Episode:
    """Return an episode of about this many messages, with lookups of some keys between them, now and in the past."""
    bounds, clock = random_bounds(random), START
    habits, pool = random_habits(random, bounds), [recurring(random) for _ in range(random.choice((1, 3)))]
    steps: list[Step] = []
    while sum(step.what == "feed" for step in steps) < messages:
        clock += random.choice(habits.ahead)
        payload = random.choice(pool).again(random) if random.random() < habits.repeating else message(random)
        if habits.talking:
            clock += SECOND // 2 + random.randint(1, ns(0.001))
            for said in conversation(random, payload):
                clock += max(0, said.after)
                steps.append(_captured(clock + min(0, said.after), said))
        else:
            late, process, host = (random.choice(each) for each in (habits.late, habits.parties, habits.hosts))
            steps.append(Step("feed", clock - late, payload=payload, process=process, host=host))
        steps += _lookups(random, clock)
    steps += [Step("get", None, (key,)) for key in KEYS]
    policy = random.choice(("auto", "auto", "reject", "accept")) if habits.talking else "accept"
    return Episode(bounds, random.random() < 0.5, policy, tuple(steps))


def _lookups(random: Random, clock: int) -> list[Step]:
    at = clock - random.choice(AGO)
    steps = [Step("get_at", at, (key,)) for key in random.sample(KEYS, 3)]
    now = random.choice((None, None, clock + random.choice(AGO)))
    if random.random() < 0.6:
        steps.append(Step("get", now, (random.choice(KEYS),)))
    if random.random() < 0.1:
        steps.append(Step(random.choice(("get_many", "get_many_at")), at, tuple(random.choices(KEYS, k=5))))
        steps[-1] = replace(steps[-1], time=now) if steps[-1].what == "get_many" else steps[-1]
    if random.random() < 0.03:
        steps.append(Step("sweep"))
    if random.random() < 0.03:
        host, cgroup, owner = random.choice(LOSSES)
        steps.append(Step("gap", clock, process=_in_cgroup(cgroup, owner), host=host))
    return steps


def _in_cgroup(cgroup: int, owner: int = 0) -> Process:
    return Process(pid=1, cgroup_id=cgroup, owner=owner)


_OWNED = (None, _in_cgroup(1), *(_in_cgroup(cgroup, 2) for cgroup in (2, 3, 3, 4)))  # several cgroups of one owner


def _captured(time: int, said: Said) -> Step:
    return Step("feed", time, payload=said.payload, flow=said.flow, process=said.process, host=said.host)


def run(episode: Episode) -> Counter[str]:
    """Take all steps; raise AssertionError at the first difference."""
    pair = ImageAndModel(episode.bounds, live=episode.live, unmatched=episode.unmatched)
    for step in episode.steps:
        step.take(pair)
    for counter in EVICTIONS:
        pair.counts[counter] = pair.model.counters[counter]
    return pair.counts


def difference(episode: Episode) -> str | None:
    """Return the first difference, None without any."""
    try:
        run(episode)
    except Exception as error:  # noqa: BLE001 - any exception of the image is a difference
        return f"{type(error).__name__}: {error}"
    return None


def shortened(episode: Episode) -> Episode:
    """Return a failing episode without the steps that are not needed for its failure."""
    size = len(episode.steps) // 2
    while size:
        at = 0
        while at < len(episode.steps):
            shorter = replace(episode, steps=episode.steps[:at] + episode.steps[at + size :])
            if difference(shorter):
                episode = shorter
            else:
                at += size
        size //= 2
    return episode
