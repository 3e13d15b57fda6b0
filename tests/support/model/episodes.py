"""Random episodes, made from a seed, for an image and its model; a failing episode can be shortened."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from random import Random

from builders.dns_builders import T
from builders.traffic import KEYS, message
from dnstrail.image import Bounds
from model.image_vs_model import EVICTIONS, UNBOUND, ImageAndModel

AHEAD = (0.0, 0.0, 0.0, 0.5, 1.0, 4.5, 5.0, 30.0, 70.0, 400.0)  # seconds by which the clock advances
LATE = (0.0, 0.0, 0.0, 0.0, 0.5, 1.0, 30.0, 200.0)  # seconds by which a packet is late
AGO = (0.0, 0.0, 0.5, 1.0, 5.0, 20.0, 60.0, 90.0, 300.0, 1000.0)
LONG = 10**9


@dataclass(frozen=True)
class Step:
    """One step: the name of a method of ImageAndModel, and its arguments."""

    what: str
    time: float | None = None
    key: str = ""
    payload: bytes = b""

    def take(self, pair: ImageAndModel) -> None:
        """Take the step on both sides."""
        match self.what:
            case "feed":
                pair.feed(self.time, self.payload)
            case "sweep":
                pair.sweep()
            case "get":
                pair.get(self.key, self.time)
            case "get_at":
                pair.get_at(self.key, self.time)


@dataclass(frozen=True)
class Episode:
    """The bounds, whether packets are live, and the steps."""

    bounds: Bounds
    live: bool
    steps: tuple[Step, ...]


def random_bounds(random: Random) -> Bounds:
    """Return bounds that a few names meet in one episode of three, else none, so that the past is kept longer."""
    grace, sightings = random.choice((0.0, 5.0, 60.0)), random.choice((4, 20, 131_072))
    if random.random() < 0.6:
        history = random.choice((0.0, LONG, LONG))
        return Bounds(UNBOUND, grace, history, owned=UNBOUND, relations=UNBOUND, sightings=sightings)
    return Bounds(
        size=random.choice((2, 3, 4, 6, UNBOUND)),
        grace=grace,
        history=random.choice((300.0, LONG)),
        owned=random.choice((1, 2, 3, 5, 8, UNBOUND, UNBOUND)),
        relations=random.choice((3, 6, 12, 25, UNBOUND, UNBOUND)),
        sightings=sightings,
    )


def random_episode(random: Random, messages: int) -> Episode:
    """Return an episode of this many messages, each followed by lookups of some keys, now and in the past."""
    clock, steps = T, []
    bounds = random_bounds(random)
    ahead = random.choice((AHEAD, AHEAD[:6]))
    late = (
        random.choice((LATE, LATE, (0.0,))) if bounds.history else (0.0,)
    )  # it may revive relations that are not swept yet
    for _ in range(messages):
        clock += random.choice(ahead)
        steps.append(Step("feed", clock - random.choice(late), payload=message(random)))
        at = clock - random.choice(AGO)
        steps += [Step("get_at", at, key) for key in random.sample(KEYS, 3)]
        if random.random() < 0.6:
            steps.append(Step("get", random.choice((None, None, clock + random.choice(AGO))), random.choice(KEYS)))
        if random.random() < 0.02:
            steps.append(Step("sweep"))
    steps += [Step("get", None, key) for key in KEYS]
    return Episode(bounds, random.random() < 0.5, tuple(steps))


def run(episode: Episode) -> Counter[str]:
    """Take all steps, or as many as the model covers; raise AssertionError at the first difference."""
    pair = ImageAndModel(episode.bounds, live=episode.live)
    for step in episode.steps:
        step.take(pair)
        if step.what == "feed" and pair.beyond_the_model():
            pair.counts["cut short"] += 1
            break
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
