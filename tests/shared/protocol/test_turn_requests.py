"""Requests to probes to end their open turns: to the right probe, once a turn, and within bounds."""

from __future__ import annotations

import pytest

from dnstrail.bus.remote_host import RemoteHost
from dnstrail.protocol.replays import Replay, TurnRequests, decode_request, encode_replay

MOST = 4


class Source:
    """A probe that answers requests with its start, while it can be reached."""

    def __init__(self, start: str, *, reached: bool = True, remote: RemoteHost | None = None) -> None:
        self.start = start
        self.reached = reached
        self.remote = remote
        self.asked: list[tuple[str, int, int | None]] = []
        self._reply: bytes | None = None

    def send(self, body: bytes) -> bool:
        """Receive a request."""
        request = decode_request(body)
        self.asked.append((request.start, request.after, request.ends))
        self._reply = encode_replay(Replay([], 0, self.start)) if self.reached else None
        return self.reached

    def reply(self) -> bytes | None:
        """Return the reply to the last request, once."""
        reply, self._reply = self._reply, None
        return reply

    @property
    def turns(self) -> list[tuple[str, int, int | None]]:
        """What was asked of it after the first question."""
        return self.asked[1:]


@pytest.fixture
def sources() -> list[Source]:
    """Return three probes; one cannot be reached."""
    return [Source("a"), Source("b"), Source("c", reached=False)]


@pytest.fixture
def requests(sources: list[Source]) -> TurnRequests:
    """Return the requests to these probes."""
    return TurnRequests(sources, MOST)


def test_all_probes_are_asked_once_at_the_beginning(sources: list[Source], requests: TurnRequests) -> None:
    """Each ends its turn, whichever is open, and names its start."""
    assert [source.asked for source in sources] == [[("", -1, (1 << 53) - 1)]] * 3


def test_the_probe_of_a_start_alone_is_asked(sources: list[Source], requests: TurnRequests) -> None:
    """Once a probe has named its start, no other one is asked for it, and once for each turn that was received."""
    for _ in range(3):
        requests.ask(("a", 8), 7)
    requests.ask(("a", 12), 8)
    assert [source.turns for source in sources] == [[("a", 7, 8), ("a", 8, 12)], [], []]


def test_a_probe_that_was_restarted_is_found(sources: list[Source], requests: TurnRequests) -> None:
    """All are asked for an unknown start, and from then on the probe that named it."""
    requests.ask(("b", 1), 0)
    sources[1].start = "new"
    requests.ask(("new", 1), 0)
    requests.ask(("new", 2), 1)
    assert [len(source.turns) for source in sources] == [1, 3, 1]


def test_another_host_that_names_a_foreign_start_draws_no_requests_to_itself(sources: list[Source]) -> None:
    """A host that claims the start of another one is believed for starts of its key alone."""
    requests = TurnRequests([Source("a", remote=RemoteHost("hostile", "hostile")), *sources], MOST)
    requests.ask(("a", 1), 0)
    requests.ask(("a", 2), 1)
    assert [turns[-1] for turns in (source.turns for source in sources) if turns] == [("a", 1, 2)]


def test_a_request_that_was_not_sent_is_repeated(sources: list[Source]) -> None:
    """A turn counts as asked for only once a request for it was sent."""
    requests = TurnRequests(sources[2:], MOST)
    requests.ask(("c", 8), 7)
    requests.ask(("c", 8), 7)
    assert len(sources[2].turns) == 2


def test_what_is_remembered_is_bounded() -> None:
    """Endless starts leave no more than the bound behind, and are asked for all the same."""
    source = Source("s0")
    requests = TurnRequests([source], MOST)
    for number in range(100):
        source.start = f"s{number}"
        requests.ask((source.start, 1), 0)
    assert len(source.turns) == 100
    assert max(len(requests._asked), len(requests._of)) <= MOST
