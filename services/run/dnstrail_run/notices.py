"""Refusals as they happen: a line on stderr, and a line of JSON for `--refusals`."""

from __future__ import annotations

from collections.abc import Callable
from select import PIPE_BUF

import msgspec

from dnstrail.process.terminal import escape_unprintable, json_line
from dnstrail_run.advice import NearestEntries, allowing_line
from dnstrail_run.allow_list import NAME, AllowList
from dnstrail_run.enforce.refusals import Ancestor, First, Limits, refusals
from dnstrail_run.report import Coverage, Refusal, RunReport
from dnstrail_run.verdict import attempt_of, reason_of

#: refusals that appear on stderr at once -> further ones are counted there; `--refusals` and the report have them
MOST_SHOWN = 20
_EACH = 0.5  # seconds until one more is shown
_NOTHING = RunReport([], 0, [], [], [], [], [], Coverage(True, [], ""))


class Notice(msgspec.Struct, frozen=True):
    """A refusal as a line of `--refusals`.

    `action`, `name`, `type`, `address`, `port` and `transport` are those of the report. `rule` states why it was
    refused, `nearest` is the entry of the list that shares most with it, and `allow` the line that would allow it; each
    "" if there is none.
    """

    time: float
    action: str
    name: str
    type: str
    address: str
    port: int
    transport: str
    process: Ancestor
    parents: list[Ancestor]
    rule: str
    nearest: str
    allow: str


class LeftOut(msgspec.Struct, frozen=True):
    """The last line of `--refusals`: the number of refusals that have no line, since there were too many."""

    left_out: int


class Notices:
    """Writes refusals as they arrive. On stderr a flood is counted: one line follows for all that were not shown.

    `write` gets a line of JSON, and returns whether it was written; None: there are no such lines. `show` gets a line
    for stderr.
    """

    def __init__(
        self,
        allowed: AllowList,
        write: Callable[[str], bool] | None,
        show: Callable[[str], object],
        monotonic: Callable[[], float],
    ) -> None:
        self._allowed = allowed
        self._nearest = NearestEntries(allowed)
        self._write = write
        self._show = show
        self._monotonic = monotonic
        self._tokens, self._at, self._held, self._left_out = float(MOST_SHOWN), monotonic(), 0, 0

    def take(self, first: First) -> None:
        """Write and show a refusal."""
        now = self._monotonic()
        self._tokens = min(float(MOST_SHOWN), self._tokens + (now - self._at) / _EACH)
        self._at = now
        if self._held and self._tokens >= MOST_SHOWN:
            self._show_held()
        is_shown = self._tokens >= 1
        if is_shown:
            self._tokens -= 1
        else:
            self._held += 1
        if self._write is None and not is_shown:
            return  # a rule and the nearest entry cost a search of the list
        (refused,) = refusals([first.attempt], [])
        notice = self._notice(first, refused)
        if self._write is not None:
            self._left_out += not self._write(_json(notice))
        if is_shown:
            self._show(_line(notice, refused))

    def end(self, limits: Limits) -> None:
        """Show the number of refusals that were held back, and write the number of those without a line."""
        if self._held:
            self._show_held()
        if self._write is not None and (left_out := self._left_out + limits.unlisted):
            self._write(_json(LeftOut(left_out)))

    def _show_held(self) -> None:
        self._show(f"dnstrail: refused {self._held} more, which are not shown one by one\n")
        self._held = 0

    def _notice(self, first: First, refused: Refusal) -> Notice:
        return Notice(
            time=first.time,
            action=refused.action,
            name=refused.name,
            type=refused.type,
            address=refused.address,
            port=refused.port,
            transport=refused.transport,
            process=Ancestor(first.attempt.pid, first.attempt.name),
            parents=first.parents,
            rule=reason_of(with_quotes(refused), self._allowed, _NOTHING),
            nearest=self._nearest.of(refused),
            allow=allowing_line(refused),
        )


def _json(line: Notice | LeftOut) -> str:
    """Return a line of `--refusals`, without the parents if it does not fit into a pipe at once."""
    text = json_line(msgspec.to_builtins(line)) + "\n"
    if len(text) > PIPE_BUF and isinstance(line, Notice):
        text = json_line(msgspec.to_builtins(msgspec.structs.replace(line, parents=[]))) + "\n"
    return text


def quoted(name: str) -> str:
    """Return a name as text; in quotes if it could be taken for another part of a line."""
    return name if name.isascii() and (not name or NAME.fullmatch(name.lower())) else ascii(name)


def with_quotes(refused: Refusal) -> Refusal:
    """Return a refusal whose name cannot be taken for another part of a line."""
    return msgspec.structs.replace(refused, name=quoted(refused.name))


def _line(notice: Notice, refused: Refusal) -> str:
    """Return one line about a refusal; names of strangers cannot leave it, and one that is not ordinary is quoted."""
    who = f"{quoted(notice.process.name)}({notice.process.pid})"
    parts = [f"dnstrail: refused {who} to {attempt_of(with_quotes(refused))}: {notice.rule}"]
    parts += [f"nearest entry: {notice.nearest}"] if notice.nearest else []
    parts += [f"to allow it: {notice.allow}"] if notice.allow else []
    return escape_unprintable("; ".join(parts)) + "\n"
