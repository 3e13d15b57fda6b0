"""The files of the segments in a folder, by their names."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final, NamedTuple

_NAME: Final = re.compile(r"(\d{10})(\.open|\.segment)(\.damaged)?", re.ASCII)


class SegmentFile(NamedTuple):
    """The file of a segment. `is_aside`: it was damaged."""

    number: int
    path: Path
    ending: str
    is_aside: bool


def segment_files(folder: Path) -> list[SegmentFile]:
    """Return the files of all segments, the oldest first.

    Raises:
        OSError: The folder cannot be read.
    """
    found = [(path, _NAME.fullmatch(path.name)) for path in folder.iterdir()]
    return sorted(SegmentFile(int(name[1]), path, name[2], bool(name[3])) for path, name in found if name)
