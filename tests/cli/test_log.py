"""`dnstrail log`: its rows, its filters and its exit codes."""

from __future__ import annotations

import pytest

from dnstrail.captured import Captured, Flow, Process
from dnstrail.events import DNS_TRANSACTION, Event
from dnstrail_cli.log import _filter_of, row_of
from live.processes import dnstrail, run_dir

ASKER = Process(7, "curl", "/usr/bin/curl", container_id="c0ffee42", container_name="web-1")
ARGS = {"id": "s/x/1/2", "name": "shop.example", "type": "A", "outcome": "nxdomain", "tries": 1, "hop": "client"}
FLOW = Flow(bytes([192, 0, 2, 100]), 40000, bytes([192, 0, 2, 53]), 53)
EVENT = Event(DNS_TRANSACTION, Captured(1_000, b"", FLOW, ASKER, ARGS), ("c", 1), "host1", difference=7)


def test_a_row_has_the_asker_and_the_arguments():
    """A row of JSON states the end in wall time, host, process and container, and each argument by its name."""
    assert row_of(EVENT) == {
        "timestamp": 1_007,
        "host": "host1",
        "process_id": 7,
        "process_name": "curl",
        "executable": "/usr/bin/curl",
        "container_id": "c0ffee42",
        "container_name": "web-1",
        "src": "192.0.2.100",
        "src_port": 40000,
        "dst": "192.0.2.53",
        "dst_port": 53,
        **ARGS,
    }


@pytest.mark.parametrize(
    ("given", "fits"),
    [
        ({}, True),
        ({"name": "*.EXAMPLE."}, True),
        ({"name": "example"}, False),
        ({"process": "7"}, True),
        ({"process": "cu*"}, True),
        ({"process": "70"}, False),
        ({"container": "c0ff"}, True),
        ({"container": "web-*"}, True),
        ({"container": "db"}, False),
        ({"outcomes": ("failed", "nxdomain")}, True),
        ({"outcomes": ("answered",)}, False),
        ({"name": "*", "process": "dig"}, False),
    ],
    ids=str,
)
def test_a_filter_selects(given, fits):
    """All filters that are given have to fit; names are compared as the image writes them."""
    accepts = _filter_of(**{"name": None, "process": None, "container": None, "outcomes": (), **given})
    assert accepts(EVENT) is fits


def test_a_process_of_the_host_fits_no_container():
    """A process outside of containers is in none, whatever the pattern."""
    of_host = Event(DNS_TRANSACTION, Captured(1, b"", FLOW, Process(7), ARGS))
    assert not _filter_of(None, None, "*", ())(of_host)


@pytest.mark.parametrize(
    ("arguments", "code", "error"),
    [((), 2, "--follow"), (("--follow", "--outcome", "lost"), 2, "lost"), (("--follow",), 3, "no cache answered")],
    ids=["without --follow", "an unknown outcome", "without a cache"],
)
def test_exit_codes(arguments, code, error):
    """A wrong use exits with 2, and a missing cache with 3."""
    with run_dir() as folder:
        done = dnstrail("log", *arguments, "--run-dir", folder)
    assert (done.returncode, error in done.stderr) == (code, True), done.stderr
