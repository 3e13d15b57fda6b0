"""The report of a worker to its cache: changes alone, and nothing is lost with a request, a reply or the cache."""

from __future__ import annotations

import random

import pytest
from msgspec import convert, to_builtins
from msgspec.msgpack import decode

from dnstrail.protocol.lookups import MAX_MESSAGE, JoinRequest, decode_request, encode_data, encode_request
from dnstrail.protocol.members import Members, Progress
from dnstrail_cache.groups.groups import MAX_MEMBERS, Groups
from dnstrail_signatures.group.others import Others
from dnstrail_signatures.group.report import Report

NOW = 100.0
STARTS = 1024


class Worker:
    """A member of a group: what it follows, what it knows of the others, and the sizes of its messages."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.progress: dict[str, Progress] = {}
        self.report = Report()
        self.others = Others(name)
        self.sizes: list[int] = []
        self._pages: list[Members] = []

    def handle(self, first: int | None, last: int, *starts: str) -> None:
        """Handle some starts up to a turn."""
        self.progress |= {start: Progress(start, first, last, max(last, 0) * 3, last * 10**9) for start in starts}

    def request(self, *, leave: bool = False) -> JoinRequest:
        """Return the next request, as the cache decodes it."""
        fields = to_builtins({"group": "g", "worker": self.name, **self.report.fields(self.progress)})
        body = encode_request("join", **fields, leave=leave)
        self.sizes.append(len(body))
        return decode_request(body)

    def take(self, reply: Members) -> bool:
        """Take a reply in; return whether another request has to follow."""
        body = encode_data(reply)
        self.sizes.append(len(body))
        page = convert(decode(body)["data"], Members)
        self.report.take(page)
        self._pages = [] if page.again else [*self._pages, page]
        if not (page.again or page.more):
            self.others.learn(self._pages, NOW, begun=True)
            self._pages = []
        return page.again or page.more

    def renew(self, groups: Groups, now: float = NOW, *, leave: bool = False) -> int:
        """Renew the membership; return the number of requests that this took."""
        requests = 1
        while self.take(groups.join(self.request(leave=leave), now)):
            requests += 1
        return requests

    def knows(self, other: Worker, *, left: bool = False) -> bool:
        """Return whether it knows of another one what the turns that this one handles follow from."""
        known = self.others.members[other.name]
        found = {start: (one.first, one.last if left else one.last >= 0) for start, one in known.progress.items()}
        return known.left == left and found == {
            start: (one.first, one.last if left else one.last >= 0) for start, one in other.progress.items()
        }


@pytest.fixture
def groups():
    """Return the groups of a cache that has settled."""
    return Groups(0.0)


def starts(count: int) -> list[str]:
    """Return the names of starts, as probes make them."""
    return [f"{number:016x}" for number in range(count)]


def test_a_full_group_stays_below_the_limit_of_a_message(groups):
    """64 members of 1,024 starts: each request and reply fits in a message, and a renewal costs a part of it."""
    workers = [Worker(f"signatures {number:016x}") for number in range(MAX_MEMBERS)]
    for worker in workers:
        worker.handle(0, 7, *starts(STARTS))
        groups.join(worker.request(), NOW)
    newest, oldest = workers[-1], workers[0]
    assert newest.renew(groups) > 1
    assert all(newest.knows(other) for other in workers[:-1])
    oldest.renew(groups)
    assert all(oldest.knows(other) for other in workers[1:])
    newest.renew(groups)
    assert max(size for worker in workers for size in worker.sizes) < MAX_MESSAGE // 2
    oldest.handle(0, 8, *starts(STARTS))
    assert oldest.renew(groups) == 1
    newest.sizes.clear()
    assert newest.renew(groups) == 1
    assert max(newest.sizes) < 8192  # what a living member has handled meanwhile concerns nobody


def test_the_longest_names_fit_as_well(groups):
    """4,096 starts with names of 128 characters fit in a request, and another member learns of them."""
    one, other = Worker("one"), Worker("other")
    names = [f"{number:0128}" for number in range(4096)]
    one.handle(1 << 32, 1 << 32, *names)
    other.renew(groups)
    one.renew(groups)
    other.renew(groups)
    assert other.knows(one)
    assert max(*one.sizes, *other.sizes) < MAX_MESSAGE


def test_nothing_is_sent_again_once_it_was_confirmed(groups):
    """A request contains the starts that have changed since the last reply."""
    worker = Worker("one")
    worker.handle(0, 7, "a", "b")
    worker.renew(groups)
    worker.handle(0, 8, "a")
    assert [one.start for one in worker.request().progress] == ["a"]


@pytest.mark.parametrize("arrives", [True, False], ids=["the reply is lost", "the request is lost"])
def test_what_was_lost_is_sent_again(groups, arrives):
    """A change, or the end of a start, is repeated until a reply confirms it, and so are the changes of others."""
    one, other = Worker("one"), Worker("other")
    one.handle(None, -1, "a", "b", "c")
    for worker in (one, other):
        worker.renew(groups)
    one.handle(5, 9, "a")
    del one.progress["b"]
    request = one.request()
    if arrives:
        groups.join(request, NOW)
        groups.join(other.request(), NOW)  # its reply is lost, too
    one.handle(None, -1, "b")  # back again
    del one.progress["c"]
    one.renew(groups)
    other.renew(groups)
    assert other.knows(one)


@pytest.mark.parametrize("expires", [True, False], ids=["the membership expired", "the cache was restarted"])
def test_a_cache_that_does_not_hold_the_report_receives_everything(groups, expires):
    """A cache that lost the report, or gave it up, says so, and knows everything with the second request."""
    one, other = Worker("one"), Worker("other")
    one.handle(0, 7, *starts(9))
    for worker in (one, other, one):
        worker.renew(groups)
    later, now = (groups, NOW + 10.0) if expires else (Groups(1.0), NOW)
    assert [worker.renew(later, now) for worker in (one, other)] == [2, 2]
    assert other.knows(one)


def test_the_last_turns_of_a_member_that_leaves_are_known(groups):
    """The others learn the last turn of each start when a member leaves."""
    leaving, other = [Worker(f"w{number}") for number in range(8)], Worker("other")
    for number, worker in enumerate(leaving):
        worker.handle(0, number, *starts(STARTS))
        worker.renew(groups)
    other.renew(groups)
    for number, worker in enumerate(leaving):
        worker.handle(0, 100 + number, *starts(STARTS))
        worker.renew(groups)
        worker.renew(groups)
    for worker in leaving:
        worker.renew(groups, leave=True)
    other.renew(groups)
    assert {name for name, one in other.others.members.items() if one.left} == {worker.name for worker in leaving}
    lasts = {one.last for member in other.others.members.values() for one in member.progress.values()}
    assert max(lasts) >= 100


def test_what_the_cache_remembers_of_dropped_starts_is_bounded(groups):
    """A worker whose starts come and go without end costs bounded memory, and the others know what it follows."""
    one, other = Worker("one"), Worker("other")
    other.renew(groups)
    for number in range(40):
        one.progress.clear()
        one.handle(0, number, *(f"{number} {place}" for place in range(500)))
        one.renew(groups)
        if number % 7 == 0:
            other.renew(groups)
    other.renew(groups)
    assert other.knows(one)
    assert len(groups._groups[None, "g"].members["one"].changed) <= 4096


@pytest.mark.parametrize("seed", range(20))
def test_whatever_is_lost_all_know_the_same_in_the_end(seed):
    """Under random changes, losses, expiries and restarts of the cache, a renewal of all makes all know all."""
    chance = random.Random(seed)
    groups, now = Groups(0.0), NOW
    workers = [Worker(f"w{number}") for number in range(4)]
    for _ in range(60):
        worker = chance.choice(workers)
        match chance.randrange(6):
            case 0 | 1:
                worker.handle(chance.choice([None, 0, 5]), chance.randrange(-1, 9), f"s{chance.randrange(6)}")
            case 2:
                worker.progress.pop(f"s{chance.randrange(6)}", None)
            case 3:
                groups.join(worker.request(), now)  # the reply is lost
            case 4:
                now += chance.choice([0.5, 4.0])
                worker.renew(groups, now)
            case 5:
                if chance.randrange(5) == 0:
                    groups = Groups(now - 50.0)
    for _ in range(2):
        for worker in workers:
            worker.renew(groups, now)
    assert all(one.knows(other) for one in workers for other in workers if one is not other)
