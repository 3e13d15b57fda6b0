"""Values from /proc are text that the bus can carry, whatever bytes a path contains."""

from __future__ import annotations

import os
import shutil
import subprocess

import pytest

from dnstrail.captured import Captured, Process
from dnstrail.protocol.batches import Batch, decode, encode
from dnstrail_probe.host.procfs import executable, read_process

SLEEP = shutil.which("sleep") or ""


@pytest.mark.parametrize(
    ("name", "shown"),
    [(b"plain", "plain"), (b"\xff\xfe", "\\xff\\xfe"), ("\u00fc".encode(), "\u00fc"), (b"a\nb", "a\nb")],
)
def test_the_path_of_any_program_can_be_encoded(tmp_path, name, shown):
    """A path that is no UTF-8 is reported with its bytes escaped, and its event can be encoded."""
    path = os.path.join(os.fsencode(tmp_path), name)  # noqa: PTH118 - bytes
    shutil.copy(SLEEP, path)
    with subprocess.Popen([path, "60"]) as process:
        try:
            found, entry = executable(process.pid), read_process(process.pid)
        finally:
            process.kill()
    assert found == f"{tmp_path}/{shown}"
    assert entry is not None
    batch = Batch("s", 0, 0, [Captured(0, process=Process(1, entry.name, entry.path))])
    assert decode(encode(batch), Batch) == batch
