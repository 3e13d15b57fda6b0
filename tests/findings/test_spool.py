"""The spool keeps batches over a restart, within its bytes.

Tests of dnstrail.process.private_folder.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import textwrap
import threading
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

import pytest
from structlog.testing import capture_logs

from builders.findings import finding_of
from builders.writers import Numbered, Script
from dnstrail.errors import SettingsError
from dnstrail_findings import output
from dnstrail_findings import spool as module
from dnstrail_findings.output import Output
from dnstrail_findings.spool import Spool
from live.processes import PATIENCE
from live.workers import BOUND, wait_until


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "spool"


def refused_by_a_full_disk(*_: object) -> NoReturn:
    raise OSError(28, "No space left on device")


class Hanging(Script):
    """A receiver that hangs: each write fails, and lasts until the test ends it."""

    def __init__(self) -> None:
        super().__init__()
        self.ends = threading.Semaphore(0)

    def write(self, lines: Sequence[bytes]) -> NoReturn:
        """Wait for the test, and fail."""
        self.tries += 1
        assert self.ends.acquire(timeout=BOUND)
        raise TimeoutError("no answer in time")


def opened(folder: Path, size: int = 1000) -> tuple[Spool, Counter[str]]:
    counters: Counter[str] = Counter()
    return Spool(folder, size, counters), counters


def test_batches_come_back_in_order(folder) -> None:
    """Batches are read in the order in which they were added, and `done` removes the oldest."""
    spool, _ = opened(folder)
    spool.add([b"a", b"b"])
    spool.add([b"c"])
    assert (len(spool), spool.first()) == (3, [b"a", b"b"])
    spool.done()
    assert spool.first() == [b"c"]
    spool.done()
    assert (len(spool), [*spool.first()]) == (0, [])


def test_a_restart_finds_the_spool(folder) -> None:
    """Batches of an earlier process come first, and a file that was not finished is removed."""
    spool, _ = opened(folder)
    spool.add([b"a", b"b"])
    spool.close()
    (folder / "0000000000000001-1.tmp").write_bytes(b"half")
    spool, _ = opened(folder)
    spool.add([b"c"])
    assert (len(spool), spool.first()) == (3, [b"a", b"b"])
    spool.done()
    assert spool.first() == [b"c"]
    assert [path.suffix for path in folder.iterdir() if path.name != "lock"] == [".lines"]


def test_the_bytes_are_bounded(folder) -> None:
    """Beyond its bytes the oldest batches are removed and counted."""
    spool, counters = opened(folder, 100)
    for number in range(10):
        spool.add([b"%d" % number * 29])
    assert (counters["spool_full"], len(spool)) == (7, 3)
    assert spool.first() == [b"7" * 29]
    assert sum(path.stat().st_size for path in folder.glob("*.lines")) <= 100


def test_a_spool_is_half_full_by_bytes_or_files(folder, monkeypatch) -> None:
    """A spool is half full beyond half of its bytes, with those that are about to come, or of its files."""
    spool, _ = opened(folder, 100)
    spool.add([b"x" * 29])
    assert [spool.is_half_full(more) for more in (0, 20, 21)] == [False, False, True]
    monkeypatch.setattr(module, "MOST_FILES", 1)
    assert spool.is_half_full(0)


def test_the_files_are_bounded(folder, monkeypatch) -> None:
    """Beyond its files the oldest batches are removed and counted."""
    monkeypatch.setattr(module, "MOST_FILES", 3)
    spool, counters = opened(folder)
    for _ in range(5):
        spool.add([b"x"])
    assert (counters["spool_full"], len(spool)) == (2, 3)


def test_what_somebody_removed_is_counted(folder) -> None:
    """A batch that is gone, cut or replaced by a link is counted once, and the next one follows."""
    spool, counters = opened(folder)
    for name in (b"a", b"b", b"c", b"d"):
        spool.add([name, name])
    gone, cut, linked, _ = sorted(folder.glob("*.lines"))
    gone.unlink()
    cut.write_bytes(b"b\n")
    linked.unlink()
    linked.symlink_to("/etc/passwd")
    assert (spool.first(), counters["spool_lost"]) == ([b"b"], 3)
    assert (spool.first(), counters["spool_lost"]) == ([b"b"], 3)
    spool.done()
    assert (spool.first(), counters["spool_lost"]) == ([b"d", b"d"], 5)


def test_a_process_without_descriptors_loses_no_batch(folder) -> None:
    """While no file can be opened, the oldest batch stays, and the output counts a failure; then it is written."""
    script = Script()
    script.fault = OSError("away")
    spool, counters = opened(folder)
    spool.add([b"a", b"b"])
    made = Output("test", Numbered(), script, spool, counters, rest=0.05)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, hard))
    try:
        made.start()
        wait_until(lambda: counters["failures"] or counters["spool_lost"], "an attempt to read the batch")
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert (counters["spool_lost"], script.tries) == (0, 0)
    script.fault = None
    wait_until(lambda: counters["written"], "the batch")
    made.close()
    assert (script.written, made.lost) == ([b"a", b"b"], 0)


def test_a_fifo_in_the_spool_is_left_out(folder) -> None:
    """A FIFO, a folder or a link with the name of a batch is no batch."""
    folder.mkdir(mode=0o700)
    os.mkfifo(folder / "0000000000000001-1.lines")
    (folder / "0000000000000002-1.lines").mkdir()
    (folder / "0000000000000003-1.lines").symlink_to("/etc/passwd")
    assert len(opened(folder)[0]) == 0


def test_a_batch_that_became_something_else_is_counted(folder) -> None:
    """A batch that is a FIFO or a folder by the time it is read holds nobody, and counts as lost."""
    spool, counters = opened(folder)
    for name in (b"a", b"b", b"c"):
        spool.add([name])
    pipe, below, _ = sorted(folder.glob("*.lines"))
    pipe.unlink()
    os.mkfifo(pipe)
    below.unlink()
    below.mkdir()
    assert (spool.first(), counters["spool_lost"]) == ([b"c"], 2)


def test_a_huge_batch_is_counted(folder) -> None:
    """A file of 100 GB with the name of a batch is not read; it counts as lost, and the next batch follows."""
    folder.mkdir(mode=0o700)
    with (folder / "0000000000000001-3.lines").open("wb") as huge:
        huge.truncate(100 << 30)
    (folder / "0000000000000002-1.lines").write_bytes(b"a\n")
    spool, counters = opened(folder)
    assert (spool.first(), counters["spool_lost"]) == ([b"a"], 3)


def test_a_folder_among_unfinished_files_is_left_alone(folder) -> None:
    """What has the name of an unfinished file and cannot be removed does not stop the start."""
    (folder / "0000000000000001-1.tmp").mkdir(parents=True)
    folder.chmod(0o700)
    assert len(opened(folder)[0]) == 0


def test_files_of_others_stay(folder) -> None:
    """A start of the spool removes its own unfinished files alone, and no other file that ends as they do."""
    folder.mkdir(mode=0o700)
    others = ["notes.tmp", "1-1.tmp", "0000000000000001-1.lines.tmp", "0000000000000001-1.tmp~"]
    for name in (*others, "0000000000000001-1.tmp"):
        (folder / name).touch()
    opened(folder)
    assert {path.name for path in folder.iterdir()} == {"lock", *others}


def test_a_spool_that_is_replaced_diverts_nothing(folder, tmp_path) -> None:
    """Whoever can rename the folder, and puts a link in its place, receives no batch: the spool goes on where it is."""
    elsewhere, moved = tmp_path / "elsewhere", tmp_path / "moved"
    elsewhere.mkdir()
    spool, counters = opened(folder)
    spool.add([b"a"])
    folder.rename(moved)
    folder.symlink_to(elsewhere)
    spool.add([b"b"])
    assert ([*elsewhere.iterdir()], len([*moved.glob("*.lines")])) == ([], 2)
    assert spool.first() == [b"a"]
    spool.done()
    assert (spool.first(), counters.total()) == ([b"b"], 0)


def test_a_spool_that_others_may_write_is_refused(tmp_path) -> None:
    """A folder of others, a link and a file are refused with an error that names them."""
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o777)
    (tmp_path / "real").mkdir(mode=0o700)
    (tmp_path / "link").symlink_to(tmp_path / "real")
    (tmp_path / "file").touch()
    for name in ("open", "link", "file", "missing/deep"):
        with pytest.raises(SettingsError, match=name):
            opened(tmp_path / name)


def test_a_spool_has_one_owner(folder) -> None:
    """Two outputs cannot use one spool at the same time."""
    spool, _ = opened(folder)
    with pytest.raises(SettingsError, match="in use"):
        opened(folder)
    spool.close()
    opened(folder)


def test_a_full_disk_holds_one_batch(folder, monkeypatch) -> None:
    """A batch that cannot be written waits in memory, leaves no file behind, and comes after the older ones."""
    spool, counters = opened(folder)
    spool.add([b"a"])
    with monkeypatch.context() as patched, capture_logs() as logs:
        patched.setattr(os, "fsync", refused_by_a_full_disk)
        spool.add([b"b", b"c"])
    assert [line["event"] for line in logs] == ["spool_failed"]
    assert counters["failures"] == 1
    assert (counters["spool_failed"], spool.has_room, spool.at_risk, len(spool)) == (1, False, 2, 3)
    assert [path.suffix for path in folder.iterdir() if path.name != "lock"] == [".lines"]
    spool.done()
    assert spool.first() == [b"b", b"c"]
    spool.done()
    assert spool.has_room


def test_a_disk_that_was_full_is_tried_again(folder, monkeypatch) -> None:
    """The batch that is held is written after the older ones once there is room; each counts once as failed."""
    spool, counters = opened(folder)
    spool.add([b"a"])
    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", refused_by_a_full_disk)
        spool.add([b"b", b"c"])
        spool.retry()
        assert (counters["spool_failed"], spool.has_room, spool.at_risk) == (1, False, 2)
    spool.retry()
    spool.retry()
    assert (spool.has_room, spool.at_risk, len(spool)) == (True, 0, 3)
    spool.close()
    again, _ = opened(folder)
    assert again.first() == [b"a"]
    again.done()
    assert again.first() == [b"b", b"c"]


FULL = """
    import json, resource, sys
    from collections import Counter
    from pathlib import Path
    from dnstrail_findings.spool import Spool
    counters = Counter()
    spool = Spool(Path(sys.argv[1]), 1000, counters)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50, 50))
    spool.add([b"x" * 200])
    held = [*map(len, spool.first())]
    spool.done()
    spool.add([b"short"])
    print(json.dumps([held, counters["spool_failed"], len(spool)]))
"""


def test_a_full_disk_leaves_no_part_of_a_batch(folder) -> None:
    """A batch that the disk does not take is held in memory, and its file is removed; a later batch is written."""
    program = [sys.executable, "-c", textwrap.dedent(FULL), str(folder)]
    done = subprocess.run(program, capture_output=True, text=True, check=True, timeout=PATIENCE)
    assert json.loads(done.stdout.splitlines()[-1]) == [[200], 1, 1]
    assert [path.read_bytes() for path in folder.iterdir() if path.name != "lock"] == [b"short\n"]


def test_a_spool_takes_what_a_receiver_does_not(folder) -> None:
    """While a receiver is away, all findings reach the spool; a restarted output delivers each of them once."""
    script = Script()
    script.fault = OSError("away")
    spool, counters = opened(folder, 1 << 20)
    made = Output("test", Numbered(), script, spool, counters)
    made.start()
    for _ in range(50):
        made.add(finding_of())
    wait_until(lambda: len(spool) == 50, "all findings in the spool")
    made.close()
    assert (made.lost, script.written) == (0, [])
    script.fault = None
    again, counters = opened(folder, 1 << 20)
    made = Output("test", Numbered(), script, again, counters)
    made.start()
    wait_until(lambda: counters["written"] == 50, "all findings")
    made.close()
    assert script.written == [b"%d" % number for number in range(1, 51)]
    assert [path.name for path in folder.iterdir()] == ["lock"]


def test_the_end_fills_the_spool_before_it_writes(folder) -> None:
    """At the end all that waits reaches the spool before a receiver that hangs gets another batch."""
    script = Hanging()
    spool, counters = opened(folder, 1 << 20)
    made = Output("test", Numbered(), script, spool, counters)
    made.start()
    made.add(finding_of())
    wait_until(lambda: script.tries == 1, "the first write")
    for _ in range(49):
        made.add(finding_of())
    made.stop()
    script.ends.release()
    wait_until(lambda: script.tries == 2, "the last write")
    assert len(spool) == 50
    script.ends.release()
    made.close()
    assert (made.lost, len(spool)) == (0, 50)


def test_a_full_disk_at_the_end_holds_back_nothing(folder, monkeypatch) -> None:
    """If the disk stays full until the end, a receiver that is back gets the spool, and then the rest of the queue."""
    script = Script()
    script.fault = OSError("away")
    spool, counters = opened(folder, 1 << 20)
    made = Output("test", Numbered(), script, spool, counters, rest=60.0)
    made.start()
    made.add(finding_of())
    wait_until(lambda: counters["failures"], "a failure")
    monkeypatch.setattr(Spool, "_write", refused_by_a_full_disk)
    for _ in range(49):
        made.add(finding_of())
    wait_until(lambda: not spool.has_room, "a full disk")
    script.fault = None
    made.close()
    assert (made.lost, script.written) == (0, [b"%d" % number for number in range(1, 51)])


@pytest.mark.parametrize("is_ending", [False, True])
def test_a_disk_that_was_full_costs_no_finding(folder, monkeypatch, is_ending) -> None:
    """If a disk is full for a while, and the receiver is away, all findings reach the spool later, or at the end."""
    monkeypatch.setattr(output, "_RETRY", 60.0 if is_ending else 0.05)
    script, full = Script(), threading.Event()
    script.fault = OSError("away")
    full.set()
    write = Spool._write
    monkeypatch.setattr(Spool, "_write", lambda *given: refused_by_a_full_disk() if full.is_set() else write(*given))
    spool, counters = opened(folder, 1 << 20)
    made = Output("test", Numbered(), script, spool, counters, rest=60.0)
    made.start()
    for _ in range(50):
        made.add(finding_of())
    wait_until(lambda: counters["spool_failed"], "a full disk")
    full.clear()
    if not is_ending:
        wait_until(lambda: len(spool) == 50, "all findings in the spool")
    made.close()
    assert (made.lost, len(spool), spool.at_risk) == (0, 50, 0)
