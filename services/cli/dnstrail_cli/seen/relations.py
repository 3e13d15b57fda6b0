"""Lives by relation for people, with a bar of their days."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from typing import Final

from rich.text import Text

from dnstrail.history.lives import RelationLife
from dnstrail.history.relations import SeenRelation
from dnstrail.process.terminal import escape_unprintable
from dnstrail.protocol.facts import type_text

_CELLS: Final = 24  # of a bar
_HEIGHTS: Final = " \u2581\u2582\u2583\u2584\u2585\u2586\u2587\u2588"
_PROGRAMS: Final = 8  # of a relation, those seen last, for people


def lines(relations: Sequence[SeenRelation], *, bars: bool) -> Iterator[Text]:
    """Yield relations for people, each with its programs below; bars have all relations on one scale of time."""
    first, last = min(one.times.first for one in relations), max(one.times.last for one in relations)
    if bars:
        yield Text(f"{_moment(first)} {'':{_CELLS}} {_moment(last)}", style="dim")
    for one in relations:
        owner, rdtype, target = one.relation
        if bars:
            yield Text(f"{'':{len(_moment(first))}} {bar(one.lives, first, last)}", style="green")
        yield Text(escape_unprintable(f"{owner} {type_text(rdtype)} {target}"), style="bold")
        for asker, times in [*one.programs.items()][:_PROGRAMS]:
            place = f" in {asker.container}" if asker.container else ""
            user = f" of user {asker.user_id}" if asker.user_id else ""
            who = escape_unprintable(f"{asker.program or 'an unknown program'}{place}{user}")
            yield Text(f"  {_moment(times.first)} to {_moment(times.last)}, {times.answers}x  {who}")
        if len(one.programs) > _PROGRAMS:
            yield Text(f"  and {len(one.programs) - _PROGRAMS} further programs", style="dim")


def bar(lives: Iterable[RelationLife], first: int, last: int) -> str:
    """Return the answers over the time from `first` to `last` as blocks; those of a life are spread over its time."""
    counts = [0.0] * _CELLS
    width = (last - first + 1) / _CELLS
    for life in lives:
        begin, end = int((life.first - first) / width), int((life.last - first) / width)
        for cell in range(begin, end + 1):
            counts[cell] += life.answers / (end + 1 - begin)
    most = max(counts)
    return "".join(_HEIGHTS[-int(-count / most * (len(_HEIGHTS) - 1) // 1)] for count in counts)


def _moment(seconds: int) -> str:
    return f"{datetime.fromtimestamp(seconds).astimezone():%Y-%m-%d %H:%M}"
