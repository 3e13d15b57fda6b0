"""A client of a cache that replies to a worker of a group what a test says."""

from __future__ import annotations

from collections import deque

from dnstrail.errors import Unavailable


class FakeCache:
    """A client of a cache with the replies of a test. `sent` holds the fields of the requests."""

    timeout = 1.0

    def __init__(self) -> None:
        self.sent: list[dict] = []
        self.replies: deque = deque()
        self.away = False

    def send(self, op, **fields):
        assert op == "join"
        self.sent.append(fields)
        return not self.away

    def reply(self):
        if not self.replies:
            return None
        reply = self.replies.popleft()
        if isinstance(reply, Exception):
            raise reply
        return reply

    def request(self, op, **fields):
        self.sent.append(fields)
        raise Unavailable("ipc:///x", 1.0)

    def close(self):
        pass


def members(*others, settled=True, epoch=1, run="r", **behind):
    """Return a reply: the name of each other member, or its name and the starts that it handles from later turns."""
    known = [
        {"worker": "me"},
        *({"worker": one} if isinstance(one, str) else {"worker": one[0], "ahead": one[1]} for one in others),
    ]
    return {"data": {"epoch": epoch, "settled": settled, "members": known, "cache": run, "behind": behind}}
