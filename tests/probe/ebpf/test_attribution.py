"""The cgroups that the attribution knows: a hierarchy of folders in place of the host's."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest

from dnstrail_probe.ebpf.attribution import WALKED, Attribution

SECOND = 1_000_000_000


@pytest.mark.parametrize("count", [10, 3 * WALKED])
def test_an_unknown_cgroup_is_searched_for_in_steps(tmp_path: Path, count: int) -> None:
    """A search looks at a bounded number of cgroups, and the next one, a second later, at the following ones."""
    attribution = Attribution(str(tmp_path), 0)
    try:
        assert len(attribution.containers) == 1
        for number in range(count):
            (tmp_path / str(number)).mkdir()
        known = [len(attribution.containers)]
        for second in range(2, 10):
            attribution.container_of(1 << 60, second * SECOND)
            attribution.container_of(1 << 60, second * SECOND + 1)
            known.append(len(attribution.containers))
        assert max(after - before for before, after in pairwise(known)) <= WALKED
        assert known[-1] == count + 1
    finally:
        attribution.close()
