"""A run of root keeps a history unless it is told not to, and no other run does unless it is asked."""

from __future__ import annotations

import os
import stat
from contextlib import closing
from pathlib import Path

import pytest

from builders.dnstap_builders import START, first_writer
from builders.facts import stored
from dnstrail.capture_options import CaptureOptions
from dnstrail.errors import SettingsError
from dnstrail.pipeline import is_empty
from dnstrail.users import User
from dnstrail_cli.pipeline import run as module
from dnstrail_cli.pipeline.options import PipelineRun
from live.processes import run_dir, started, wait_until
from live.tapped_resolver import resolved

DEFAULTS = {
    "run_dir": None,
    "dnscache": (),
    "events": (),
    "output": (),
    "signatures": (),
    "options": CaptureOptions(),
    "memory": 1024,
    "config": "none",
    "to": (),
}


def folder_of(history: str | None, capture: str = "auto", user: User | None = None, *, cache: bool = True):
    """Return the folder of the history of a run."""
    run = PipelineRun(capture=capture, history=history, **DEFAULTS)
    return module._history_folder(run, user, cache=cache)


@pytest.fixture
def default(tmp_path, monkeypatch) -> Path:
    monkeypatch.setattr(module, "HISTORY", tmp_path / "history")
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(module, "missing_capabilities", lambda *_: ())
    return tmp_path / "history"


def test_root_keeps_a_history_by_default(default, capsys):
    """The first run of root states on stderr that names are kept, where, for how long, and what prevents it."""
    assert folder_of(None) == default
    said = capsys.readouterr().err
    assert all(words in said for words in (str(default), "7 days", "a year", "--history-folder none", "exclude"))
    (default / "0000000001.open").touch()
    assert not is_empty(default)
    assert (folder_of(None), capsys.readouterr().err) == (default, "")


@pytest.mark.parametrize(
    ("given", "capture", "cache"),
    [("none", "auto", True), (None, "demo", True), (None, "x.pcap", True), (None, "auto", False)],
)
def test_nothing_is_kept(default, given, capture, cache):
    """A file, a run without a cache, and `none` keep nothing and make no folder."""
    assert folder_of(given, capture, cache=cache) is None
    assert not default.exists()


def test_root_without_a_live_source_keeps_nothing(default, monkeypatch):
    """Root of a container without capabilities plays the bundled capture, which is nobody's history."""
    monkeypatch.setattr(module, "missing_capabilities", lambda *names: names)
    assert folder_of(None) is None
    assert not default.exists()


def test_another_user_keeps_nothing_unless_asked(default, monkeypatch):
    """A run of another user than root keeps a history in the folder that it names, and none by default."""
    monkeypatch.undo()
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert folder_of(None) is None


def test_a_folder_that_cannot_be_used(default, tmp_path, capsys):
    """Without its default folder a run works, and states why it keeps nothing; a folder that is named must work."""
    default.write_text("a file")
    assert folder_of(None) is None
    assert "no history is kept" in capsys.readouterr().err
    with pytest.raises(SettingsError, match="--history-folder"):
        folder_of(str(default))


@pytest.mark.parametrize("given", [{"capture": "demo"}, {"cache": False}])
def test_a_history_that_cannot_be_kept_is_refused(tmp_path, given):
    """A history of a file, and one without a cache, refuse the start."""
    with pytest.raises(SettingsError, match="--history-folder"):
        folder_of(str(tmp_path), **given)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives a folder away")
def test_a_run_keeps_what_was_asked():
    """The worker of a run of the caller of sudo stores transactions in files of this user alone, and ends with it."""
    with run_dir() as parent:
        parent.chmod(0o755)
        history = parent / "history"
        tap = parent / "run" / "dnstap.sock"
        arguments = ("--capture", f"dnstap:{tap}", "--run-dir", tap.parent, "--history-folder", history)
        with started(*arguments, SUDO_UID="61000", SUDO_GID="61000", DNSTRAIL_LOG_LEVEL="info") as run:
            wait_until(lambda: "dnstrail: ready\n" in iter(run.stderr.readline, ""), "the pipeline")
            with closing(first_writer(tap)) as writer:
                writer.send(START)
                numbers = iter(range(1, 4000))
                wait_until(lambda: writer.send(resolved(next(numbers))) or stored(history), "a transaction")
        files = [history, *history.iterdir()]
        assert {path.stat().st_uid for path in files} == {61000}
        assert {stat.S_IMODE(path.stat().st_mode) for path in files} == {0o700, 0o600}
