"""One run of a command: what its report says of it, and options that contradict each other.

Tests of dnstrail_run.run_settings.
"""

from __future__ import annotations

import io
import os
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import msgspec
import pytest

from dnstrail.capture_options import CaptureOptions
from dnstrail.errors import SettingsError
from dnstrail_run import command_process, session
from dnstrail_run.allow_list import parse_allow_list
from dnstrail_run.followed import Followed
from dnstrail_run.forms import FORMATS
from dnstrail_run.launcher import Launcher
from dnstrail_run.report import AskedName, Program, RunReport
from dnstrail_run.run_settings import Settings, enforce_of
from dnstrail_run.sections import sections


def settings_of(*command: str) -> Settings:
    """Return the settings of a command without any option."""
    nothing = dict.fromkeys(["reports", "fail_on"], ()) | dict.fromkeys(["allow", "learn", "refusals", "run_dir"])
    flags = ["allow_new_privileges", "any_question", "ask", "check_server_name", "enforce", "follow_containers"]
    flags += ["getaddrinfo", "learn_domains", "quiet", "wait_for_all"]
    return Settings(
        command=command, options=CaptureOptions(), on_crash="refuse", **nothing, **dict.fromkeys(flags, False)
    )


def report_of(*command: str) -> RunReport:
    """Return the report about a command that did nothing."""
    run = session.Run(Followed(0, frozenset()), [], 0.0, 0.0, None, None, 0, "")
    return session._report_of(settings_of(*command), Launcher(0, 0, 0), run, is_root=False)


@pytest.mark.parametrize("form", FORMATS)
def test_an_argument_that_is_no_text_is_escaped(form):
    """Each form of a report contains an argument that is no UTF-8, with its bytes escaped."""
    report = report_of("sh", "é", os.fsdecode(b"x\xff"))
    assert report.command == ["sh", "é", "x\\xff"]
    assert FORMATS[form](report).encode()


@pytest.mark.parametrize("quiet", [False, True])
def test_the_forms_of_a_run_are_made_before_it_begins(quiet, monkeypatch):
    """Before another user may be unable to read its modules, each form of the run is made once, and no other one."""
    made = []
    monkeypatch.setattr(session, "_table_of", lambda _: made.append("table"))
    settings = msgspec.structs.replace(settings_of("true"), quiet=quiet)
    session._load_forms(settings, [lambda _: made.append("page")])
    assert made == (["page"] if quiet else ["page", "table"])


def test_a_fifo_that_nobody_empties_delays_nothing(tmp_path):
    """A FIFO gets each line of `--refusals` once; those that it cannot take are lost, and the run ends."""
    path = tmp_path / "fifo"
    os.mkfifo(path)
    reading = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    settings = msgspec.structs.replace(settings_of("true"), refusals=str(path), quiet=True)
    written = 0
    with session._open_files(settings, None) as files:
        while files.refusals.append(f"{written:100}\n"):
            written += 1
        assert session._write(report_of("true"), settings, files)
        assert os.read(reading, 1 << 20).decode() == "".join(f"{number:100}\n" for number in range(written))
        os.close(reading)
        assert not files.refusals.append("without a reader\n")
    assert written > 0


@pytest.mark.parametrize("buffering", [0, -1])
def test_a_stderr_that_does_not_block_gets_all(monkeypatch, buffering):
    """If the command made stderr non-blocking, and filled it, the report waits for the reader, and is whole."""
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    filled = os.write(writing, bytes(1 << 20))
    text = "r\u00e9port\n" * 20_000
    started = threading.Event()

    def read_all():
        started.wait()
        with os.fdopen(reading, "rb") as file:
            return file.read()

    with ThreadPoolExecutor() as pool:
        read = pool.submit(read_all)
        with io.TextIOWrapper(os.fdopen(writing, "wb", buffering), "utf-8", write_through=True) as stderr:
            monkeypatch.setattr(sys, "stderr", stderr)
            threading.Timer(0.1, started.set).start()
            session._say(text)
            session._say("end\n")
        started.set()
        monkeypatch.undo()
        assert read.result()[filled:].decode() == f"{text}end\n"


@pytest.mark.parametrize("name", ["resolver", "include", "a.example"])
def test_a_learned_line_is_an_entry(tmp_path, name):
    """A name that could begin another entry is learned, too, with each type that was asked."""
    report = report_of("true")
    asked = AskedName(name, "answered", 1, Program(7, "dig", "/usr/bin/dig"), ["A", "SRV", "TXT"])
    report = msgspec.structs.replace(report, names=[asked])
    settings = msgspec.structs.replace(settings_of("true"), learn=tmp_path / "list", quiet=True)
    with session._open_files(settings, None) as files:
        assert session._write(report, settings, files)
    [entry] = parse_allow_list((tmp_path / "list").read_text()).entries_of(name)
    assert entry.types == {16, 33}


def test_names_are_checked_by_the_rules_alone():
    """To check names that connections state, the rules must hold."""
    settings = msgspec.structs.replace(settings_of("true"), check_server_name=True)
    with pytest.raises(SettingsError, match="needs --enforce"):
        enforce_of(settings, None, None)


def test_hidden_services_are_listed():
    """The coverage of a report names the sockets that the command does not find."""
    report = msgspec.structs.replace(report_of("true"), hidden=["/run/docker.sock", "/run/user/7/bus"])
    (coverage,) = [section for section in sections(report) if section.title == "Coverage"]
    assert ("Hidden from the command: /run/docker.sock, /run/user/7/bus.",) in coverage.rows


def test_a_kernel_without_domains(monkeypatch):
    """Where the kernel has no domain for the command, the report states what this allows."""
    monkeypatch.setattr(command_process, "_SCOPES", 1_000)
    followed = Followed(0, frozenset())
    assert session._rights_of(settings_of("true"), Launcher(0, 0, 0), followed, is_root=False) == [session._NO_DOMAIN]


@pytest.mark.parametrize(
    ("options", "fault"),
    [
        ({"ask": True}, "--ask needs --enforce"),
        ({"refusals": "file"}, "--refusals needs --enforce"),
        ({"learn_domains": True}, "--allow-learn-domains needs --allow-learn"),
        ({"enforce": True}, "--enforce needs --allow"),
        ({"enforce": True, "ask": True, "any_question": True, "allow": "list"}, "has nothing to ask"),
    ],
)
def test_options_that_need_others(options, fault):
    """The error names both options, and nothing starts."""
    settings = msgspec.structs.replace(settings_of("true"), **options)
    allowed = parse_allow_list("a.test") if settings.allow else None
    with pytest.raises(SettingsError, match=fault):
        enforce_of(settings, allowed, None)


def test_without_enforce_there_are_no_rules():
    """A run that only reports has nothing to hold."""
    assert enforce_of(settings_of("true"), None, None) is None
