"""The settings file: which one is read, and which keys and values it may have."""

from __future__ import annotations

import os
import re

import click
import pytest

from dnstrail.errors import SettingsError
from dnstrail.process import config_file
from dnstrail.process.config_file import ConfigFile, find_config, read_config
from dnstrail_cache.__main__ import command as cache_command
from dnstrail_cli.__main__ import main_command
from dnstrail_cli.pipeline.replay import replay
from dnstrail_probe.__main__ import command as probe_command
from dnstrail_signatures.__main__ import command as signatures_command
from live.processes import dnstrail

COMMANDS = {
    "dnstrail": main_command,
    "replay": replay,
    "probe": probe_command,
    "cache": cache_command,
    "signatures": signatures_command,
}
COMPLETE = {"replay": ["demo"]}  # the arguments that a command needs


@pytest.fixture
def write(tmp_path):
    """Return a function that writes a settings file, and returns its path."""
    tmp_path.chmod(0o755)

    def write(text, mode=0o644):
        path = tmp_path / "dnstrail.toml"
        path.write_text(text)
        path.chmod(mode)
        return path

    return write


def params(table, path, *arguments):
    """Return the parameters of a command that reads a settings file."""
    command = COMMANDS[table]
    words = [f"--config={path}", *COMPLETE.get(table, []), *arguments]
    return command.make_context(table, words).params


@pytest.mark.parametrize("table", COMMANDS)
def test_a_command_takes_its_defaults_from_its_table(write, table):
    """An option that the command line does not name has the value of the file; the command line comes first."""
    path = write(f'[{table}]\nrun-dir = "/tmp/one"\n')
    assert str(params(table, path)["run_dir"]) == "/tmp/one"
    assert str(params(table, path, "--run-dir=/tmp/two")["run_dir"]) == "/tmp/two"


def test_the_environment_comes_before_the_file(write, monkeypatch):
    """A variable of the environment replaces the value of the file."""
    path = write('[cache]\nrun-dir = "/tmp/one"\nmetrics = 9154\n')
    monkeypatch.setenv("DNSTRAIL_RUN_DIR", "/tmp/two")
    monkeypatch.setenv("DNSTRAIL_METRICS", "9155")
    found = params("cache", path)
    assert (str(found["run_dir"]), found["metrics"]) == ("/tmp/two", ("127.0.0.1", 9155))


def test_lists_numbers_and_flags_are_values(write):
    """An option that can be repeated has a list, a flag true or false, and a number may be written as one."""
    path = write('[signatures]\nsubscribe = ["ipc:///a", "ipc:///b"]\nno-cache = true\nbudget = 20\nmetrics = 9154\n')
    found = params("signatures", path)
    assert (found["subscribe"], found["no_cache"], found["budget"]) == (("ipc:///a", "ipc:///b"), True, 20.0)
    assert found["metrics"] == ("127.0.0.1", 9154)


REFUSED = {
    "no TOML": ("[cache]\nserve = \n", "Invalid value (at line 2, column 9)"),
    "an unknown table": ("[chache]\n", "chache: unknown table: did you mean cache?"),
    "a key outside of all tables": ("memory = 7\n", "memory: unknown table: known: dnstrail, replay, probe, cache, "),
    "a value instead of a table": ("cache = 7\n", "cache: must be a table"),
    "an unknown key": ("[cache]\nserv = 'x'\n", "serv: unknown key in [cache]: did you mean serve?"),
    "another spelling": ("[cache]\nrun_dir = 'x'\n", "run_dir: unknown key in [cache]: did you mean run-dir?"),
    "an option that acts in one run": ("[cache]\nconfig = 'x'\n", "config: unknown key in [cache]: known: "),
    "no list": ("[cache]\nsubscribe = 'x'\n", "[cache] subscribe: must be a list"),
    "a list": ("[cache]\nfindings = ['x']\n", "[cache] findings: must not be a list"),
    "a flag": ("[cache]\nfindings = true\n", "[cache] findings: must not be true or false"),
    "a time": ("[cache]\nfindings = 2026-01-01\n", "[cache] findings: must be text or a number"),
    "a wrong word": ("[cache]\nlog-level = 'loud'\n", "[cache] log-level: 'loud' is not one of"),
    "a wrong value of a list": (
        "[cache]\ndnscache = ['sizes=1']\n",
        "[cache] dnscache: unrecognized dnscache option: 'sizes=1'",
    ),
    "a wrong history": ("[cache]\ndnscache = ['history=1e300']\n", "[cache] dnscache: dnscache history: '1e300'"),
    "no address to serve": ("[cache]\nserve = ['x']\n", "[cache] serve: 'x': no bus address"),
    "no path": ("[cache]\nstate = ''\n", "[cache] state: '' is no path of a file"),
    "a wrong address": ("[cache]\nmetrics = 'localhost:1'\n", "[cache] metrics: 'localhost' is no address"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_wrong_file_is_refused(write, name):
    """The error names the file, the line or the key, and the nearest right key."""
    text, error = REFUSED[name]
    path = write(text)
    with pytest.raises(SettingsError, match=re.escape(f"settings file {path}: {error}")):
        params("cache", path)


@pytest.mark.parametrize("name", ["dnstrail", "cache"])
def test_a_wrong_file_ends_the_command_with_2(write, name):
    """A wrong file is wrong usage: one line, exit code 2."""
    path = write(f"[{name}]\nrunn-dir = 'x'\n")
    done = dnstrail(*([] if name == "dnstrail" else [name]), "--config", path)
    assert done.returncode == 2
    assert done.stderr == f"Error: settings file {path}: runn-dir: unknown key in [{name}]: did you mean run-dir?\n"


def test_a_command_of_dnstrail_reads_its_own_table_alone(write):
    """`dnstrail --config FILE cache` reads the table of the cache, and not the one of dnstrail."""
    path = write("[dnstrail]\nmemory = 'much'\n[cache]\nlog-level = 'loud'\n")
    done = dnstrail("--config", path, "cache")
    assert "[cache] log-level" in done.stderr


def test_the_default_file_is_optional(write):
    """Without the default file there are no settings; `none` reads no file even if it exists."""
    path = write("[cache]\nserve = 'x'\n")
    assert find_config(None, path).table("cache") == {"serve": "x"}
    assert find_config(None, path.with_name("missing")) == ConfigFile()
    assert find_config("none", path).path is None


@pytest.mark.parametrize("mode", [0o666, 0o664])
def test_a_file_that_others_may_write_is_not_used(write, capsys, mode):
    """A file that others may write is refused where --config names it, and reported and left out as the default."""
    path = write("[cache]\nserve = 'x'\n", mode)
    with pytest.raises(SettingsError, match=f"settings file {path}: others may write it"):
        find_config(str(path))
    assert find_config(None, path) == ConfigFile()
    assert f"the settings are not used: settings file {path}: others may write it" in capsys.readouterr().err


@pytest.mark.skipif(os.geteuid() != 0, reason="gives files away")
def test_a_file_of_another_user_is_refused(write):
    """A file of a user who is neither root nor this one is refused."""
    path = write("")
    os.chown(path, 65534, 65534)
    with pytest.raises(SettingsError, match="must belong to root or to this user"):
        read_config(path)


def test_completion_and_help_read_no_file(monkeypatch):
    """Neither help nor the completion of a shell reads a settings file."""
    monkeypatch.setattr(config_file, "find_config", lambda *_: pytest.fail("a settings file was read"))
    with pytest.raises(click.exceptions.Exit):
        cache_command.make_context("cache", ["--help"])
    main_command.make_context("dnstrail", ["--config", "/nowhere"], resilient_parsing=True)


def test_a_worker_accepts_the_addresses_of_a_fleet(write):
    """The table that a lookup of the fleet reads is no option of a worker, and no fault."""
    path = write("[fleet.hosts]\nweb1 = 'tcp://192.0.2.1:7003'\n[cache]\nrun-dir = '/tmp/one'\n")
    assert str(params("cache", path)["run_dir"]) == "/tmp/one"
