from __future__ import annotations

import json

import pytest

from live.processes import dnstrail, run_dir


@pytest.mark.parametrize(
    "flags",
    [
        ["--dnscache", "enable,size=10"],
        ["--dnscache", "size=10,enable"],
        ["--dnscache", "enable", "--dnscache", "size=10"],
        ["--dnscache=size=10"],
        ["--dnscache", "none", "--dnscache", "enable"],
    ],
)
def test_all_forms_of_tracee_work(flags):
    """The flag accepts its options separated by commas, in several flags, or both."""
    with run_dir() as folder:
        done = dnstrail("--capture", "demo", "--run-dir", folder, *flags, "--events", "WATCHED_NAME")
    assert done.returncode == 0, done.stderr
    assert "WATCHED_NAME" in done.stdout


@pytest.mark.parametrize(
    "value", ["size=0", "size=-3", "size=x", "size=1e6", "foo=1", "grace=-1", "grace=x", "", "enable,bar"]
)
def test_wrong_option_is_one_clear_line(value):
    """A wrong option exits with 2 and one line that names it."""
    with run_dir() as folder:
        done = dnstrail("--capture", "demo", "--run-dir", folder, "--dnscache", value)
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert value.rpartition(",")[2].partition("=")[2] in done.stderr
    assert "dnscache" in done.stderr


@pytest.mark.parametrize("form", [["--dnscache", "help"], ["--dnscache=help"]])
def test_help_lists_the_options(form):
    """`--dnscache help` prints the options and exits with 0."""
    done = dnstrail(*form)
    assert done.returncode == 0
    for option in ("enable", "size=X", "grace=", "unmatched=", "none"):
        assert option in done.stdout


def test_documented_line_works():
    """The command line from tracee's page runs unchanged; its events are sorted JSON with codes as names."""
    line = "--output option:sort-events --output json --output option:parse-arguments --dnscache enable"
    with run_dir() as folder:
        done = dnstrail(
            *line.split(), "--events", "net_packet_dns,DNS_DATA_SOURCE", "--capture", "demo", "--run-dir", folder
        )
    assert done.returncode == 0, done.stderr
    events = [json.loads(text) for text in done.stdout.splitlines()]
    assert len(events) == 18
    assert [event["timestamp"] for event in events] == sorted(event["timestamp"] for event in events)
    first = {arg["name"]: arg["value"] for arg in events[0]["args"]}
    assert first["proto_dns"]["questions"] == [{"name": "shop.example", "type": "A", "class": "IN"}]


def test_without_a_cache_its_signatures_are_left_out():
    """With `--dnscache none` the run has no cache, and signatures that need a cache are left out."""
    with run_dir() as folder:
        done = dnstrail("--capture", "demo", "--run-dir", folder, "--dnscache", "none", "--output", "json")
    assert done.returncode == 0
    assert "WATCHED_NAME" not in done.stdout
    assert "data source tracee/facts is not registered" in done.stderr


@pytest.mark.parametrize(
    ("option", "value"), [("--events", "no_such_event"), ("--output", "xml"), ("--output", "option:no-such")]
)
def test_other_wrong_options_are_named(option, value):
    """An unknown event or output exits with 2 and one line that names it."""
    with run_dir() as folder:
        done = dnstrail("--capture", "demo", "--run-dir", folder, option, value)
    assert done.returncode == 2
    assert value in done.stderr
    assert len(done.stderr.splitlines()) == 1
