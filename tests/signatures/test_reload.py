"""The reload of a signature worker: what changes, what stays, and what is refused."""

from __future__ import annotations

import subprocess
import sys
import threading

import msgspec
import pytest
from structlog.testing import capture_logs

from dnstrail import Signature, SignatureMetadata
from dnstrail.datasource import DataSources
from dnstrail.errors import SettingsError
from dnstrail.events import NET_PACKET_DNS
from dnstrail.process.config_file import find_config
from dnstrail.signature import EventSelector, Signal
from dnstrail_signatures.engine.engine import Engine
from dnstrail_signatures.loading.chosen import Choice
from dnstrail_signatures.loading.load import find
from dnstrail_signatures.loading.signature_settings import CommonSettings, SignatureSettings
from dnstrail_signatures.reload import Reloader
from live.workers import wait_until

FILE = """
from dnstrail import EventSelector, Signature, SignatureMetadata

class Mine(Signature):
    metadata = SignatureMetadata("Mine-id", "{version}", "Mine", "MINE")
    selected_events = (EventSelector(name="net_packet_dns"),)
"""


class Own(msgspec.Struct, frozen=True):
    """The settings of a signature of the test."""

    least: int = 1


class Noting(Signature):
    """Notes what it receives."""

    selected_events = (EventSelector(name=NET_PACKET_DNS),)
    settings = Own()

    def init(self, ctx):
        super().init(ctx)
        self.noted = []
        if self.settings.least < 0:
            raise ValueError("on purpose")

    def on_signal(self, signal):
        self.noted.append(signal)

    def close(self):
        self.noted.append("closed")


class First(Noting):
    metadata = SignatureMetadata("T-1", "1", "First", "FIRST")


class Second(Noting):
    metadata = SignatureMetadata("T-2", "1", "Second", "SECOND")


def settings(first=1, second=1, **common):
    made = SignatureSettings(CommonSettings(**common), Own(first))
    return {"T-1": made, "T-2": SignatureSettings(own=Own(second))}


@pytest.fixture
def engine():
    return Engine([First, Second], DataSources(), print, settings=settings())


def test_a_signature_with_the_same_settings_runs_on(engine):
    """A signature whose class and own settings stay keeps its state, and receives a signal; the others start anew."""
    first, second = engine.signatures
    engine.adopt(engine.prepare([First, Second], settings(second=2, severity=3)))
    assert engine.signatures[0] is first
    assert first.noted == [Signal("reload")]
    assert second.noted == ["closed"]
    assert engine.signatures[1].settings == Own(2)


def test_a_signature_that_is_left_out_is_closed(engine):
    """A signature that is no longer chosen is closed, and receives no further event."""
    _, second = engine.signatures
    engine.adopt(engine.prepare([First], settings()))
    assert [type(signature) for signature in engine.signatures] == [First]
    assert second.noted == ["closed"]


def test_a_signature_that_does_not_start_refuses_the_reload(engine):
    """If one signature does not start, those that were started with it are closed, and nothing changes."""
    before = [*engine.signatures]
    with pytest.raises(SettingsError, match=r"^signature SECOND \(T-2\) does not start: ValueError: on purpose$"):
        engine.prepare([First, Second], settings(first=7, second=-1))
    assert engine.signatures == before
    assert [signature.noted for signature in before] == [[], []]


def test_a_signature_that_did_not_start_before_refuses_no_reload():
    """A signature that was left out at the start is left out of a reload, too, unless a user asks for it now."""
    engine = Engine([First, Second], DataSources(), print, settings=settings(second=-1))
    engine.adopt(engine.prepare([First, Second], settings(second=-1)))
    assert [type(signature) for signature in engine.signatures] == [First]
    assert [*engine.faults] == ["SECOND"]
    with pytest.raises(SettingsError, match="on purpose"):
        engine.prepare([First, Second], settings(second=-1), asked={Second})
    engine.adopt(engine.prepare([First], settings()))
    assert engine.faults == {}


def test_a_signature_that_fails_at_the_signal_goes_on_and_has_a_fault():
    """A signature that raises on the signal to reload has a fault until a reload succeeds."""

    class Failing(First):
        fails = True

        def on_signal(self, _signal):
            if self.fails:
                raise SettingsError("no list")

    engine = Engine([Failing], DataSources(), print)
    with capture_logs() as lines:
        engine.adopt(engine.prepare([Failing], settings()))
    assert engine.faults == {"FIRST": "no list"}
    assert [(line["event"], line["signature"], line["reason"]) for line in lines] == [
        ("reload_refused", "FIRST", "no list")
    ]
    Failing.fails = False
    engine.adopt(engine.prepare([Failing], settings()))
    assert engine.faults == {}


@pytest.fixture
def folder(tmp_path):
    tmp_path.chmod(0o755)
    write(tmp_path / "mine.py", FILE.format(version=1))
    write(tmp_path / "f.toml", "")
    return tmp_path


def write(path, text):
    path.write_text(text)
    path.chmod(0o644)


@pytest.fixture
def choice(folder):
    made = Choice([folder / "mine.py"], ("MINE",), find_config(str(folder / "f.toml")))
    made.choose(find([folder / "mine.py"]))
    return made


def test_a_file_that_did_not_change_keeps_its_classes(choice, folder):
    """A file with the same content is not loaded again; a changed one is."""
    [first] = choice.again().classes
    [again] = choice.again().classes
    assert again is first
    write(folder / "mine.py", FILE.format(version=2))
    [changed] = choice.again().classes
    assert changed.metadata.version == "2"


WRONG = {
    "a signature": ("mine.py", "x = (", "signature file"),
    "a setting": ("f.toml", "[signature.Mine-id]\nleast = 7\n", "least: unknown key"),
    "no TOML": ("f.toml", "x =\n", "at line 1"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_changes_nothing(choice, folder, engine, name):
    """A wrong file is refused with one line in the log; the next reload, of a right one, succeeds."""
    file, text, error = WRONG[name]
    right = (folder / file).read_text()
    requested = threading.Event()
    reloader = Reloader(requested, choice.again, engine)
    write(folder / file, text)
    with capture_logs() as logs:
        assert reload(reloader, requested) is None
    assert [(line["event"], error in line["reason"]) for line in logs] == [("reload_refused", True)]
    assert error in reloader.refused
    write(folder / file, right)
    assert [cls.__name__ for cls in reload(reloader, requested).chosen.classes] == ["Mine"]
    assert reloader.refused == ""


def reload(reloader, requested):
    """Request a reload, and return what it has led to."""
    requested.set()
    assert reloader.step() is None
    wait_until(lambda: not reloader._thread.is_alive(), "the end of the reload")
    return reloader.step()


def test_events_are_handled_while_a_reload_takes_long(engine, choice):
    """A reload that hangs does not keep the worker: a step returns at once."""
    requested, go_on = threading.Event(), threading.Event()
    reloader = Reloader(requested, lambda: go_on.wait() and choice.again(), engine)
    requested.set()
    assert [reloader.step() for _ in range(3)] == [None] * 3
    go_on.set()
    wait_until(lambda: reloader.step() is not None, "the reload")


def test_a_worker_can_read_settings_that_are_new() -> None:
    """A worker that began without settings reads some although its user may not read the modules."""
    code = "import sys, dnstrail_signatures.reload; print('tomllib' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "True\n"
