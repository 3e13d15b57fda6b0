"""`dnstrail connections`: the table, its pages and its exit codes."""

from __future__ import annotations

import json
import signal

import pytest
from rich.console import Console

from dnstrail.bus.ipc import lookups_address
from dnstrail.protocol.batches import unpack
from dnstrail.protocol.lookups import encode_data
from dnstrail_cli.lookups.tables import age_text, connection_table
from live.processes import PATIENCE, dnstrail, started
from live.workers import answering, short_folder

ONE = {
    "host": "h", "process_id": 70, "process_name": "app", "executable": "/bin/app", "container_id": "",
    "container_name": "", "container_image": "", "unit": "", "slice": "", "client": "10.0.0.2", "client_port": 50000,
    "address": "192.0.2.1", "port": 443, "transport": "tcp",
    "name": "one.example", "bound": "thread", "state": "live", "connected": True, "since": 1.0, "age": 42.0,
    "rivals": [],
}  # fmt: skip


def connections_of(*pages):
    """Return a cache that answers `connections` with these pages, and no process 71."""

    def reply(body):
        asked = unpack(body)
        if asked.get("process") == 71:
            return encode_data({"connections": [], "next": ""})
        place = int(asked["cursor"].split()[0] if asked["cursor"] else 0)
        following = f"{place + 1} {len(pages)}" if place + 1 < len(pages) else ""
        return encode_data({"connections": pages[place], "next": following})

    return reply


def drawn(found, most=10, *, rivals=False):
    console = Console(width=160)
    with console.capture() as shown:
        console.print(connection_table(found, most, rivals=rivals))
    return [line.split() for line in shown.get().splitlines()]


def test_the_table_names_each_connection():
    """A row has age, process, container, name, address and state; unknown values are dashes."""
    v6 = {**ONE, "address": "2001:db8::1", "container_id": "abcdef0123456789", "name": "", "state": "", "process_id": 0}
    assert drawn([ONE, {**v6, "connected": False}])[1:] == [
        ["42s", "app(70)", "-", "one.example", "192.0.2.1:443/tcp", "live"],
        ["42s", "-", "abcdef012345", "-", "[2001:db8::1]:443/tcp", "no", "name,", "attempted"],
    ]


def test_a_process_without_a_container_has_its_unit():
    """The unit is in the place of the container, which an older cache does not state."""
    old = {name: value for name, value in ONE.items() if name not in ("unit", "slice")}
    assert [line[2] for line in drawn([{**ONE, "unit": "alice/app.scope"}, old])[1:]] == ["alice/app.scope", "-"]


def test_rivals_are_a_column_on_request():
    """With rivals, the other names are in a column of their own."""
    assert drawn([{**ONE, "rivals": ["two", "three"]}], rivals=True)[1][-2:] == ["two", "three"]


def test_the_last_opened_are_shown():
    """If the terminal has too few lines, the connections opened last are shown, with the number of the others."""
    lines = drawn([{**ONE, "name": name} for name in ("a", "b", "c")], 1)
    assert (lines[1][3], lines[2][0]) == ("c", "2")


@pytest.mark.parametrize(("seconds", "text"), [(-1, "0s"), (59.4, "59s"), (60, "1m"), (7200, "2h"), (200000, "2d")])
def test_an_age_has_its_largest_unit(seconds, text):
    """An age is shown in its largest whole unit."""
    assert age_text(seconds) == text


def test_the_connections_of_a_time():
    """The time reaches the cache with each page; lines name the history, and stderr states that it is incomplete."""
    asked = []

    def reply(body):
        asked.append(unpack(body))
        page = {"connections": [ONE], "next": "" if asked[-1]["cursor"] else "1 1", "history": len(asked) != 2}
        return encode_data(page, source="history")

    with short_folder() as folder, answering(lookups_address(folder), reply):
        done = dnstrail("connections", "--json", "--at", "2026-11-24T14:00:00Z", "--run-dir", folder)
        table = dnstrail("connections", "--at", "1795528800", "--run-dir", folder)
    assert [(one["at"], one["cursor"]) for one in asked] == [(1795528800.0, cursor) for cursor in ("", "1 1")] * 2
    assert [json.loads(line) for line in done.stdout.splitlines()] == [{**ONE, "source": "history"}] * 2
    assert (done.returncode, "history of this time is incomplete" in done.stderr) == (0, True)
    assert (table.returncode, table.stderr, len(table.stdout.splitlines())) == (0, "", 3)


def test_a_time_goes_without_watch():
    """A time that is none, or one with --watch, is wrong usage."""
    for wrong in (("--at", "5"), ("--at", "then")):
        assert dnstrail("connections", "--watch", *wrong).returncode == 2


def test_all_pages_are_shown_and_escaped():
    """The command asks for all pages, and shows control bytes of strangers as text."""
    hostile = {**ONE, "name": "\x1b[31m[red]", "process_name": "a\nb"}
    with short_folder() as folder, answering(lookups_address(folder), connections_of([ONE], [hostile])):
        done = dnstrail("connections", "--run-dir", folder, COLUMNS="200")
        as_json = dnstrail("connections", "--json", "--run-dir", folder)
    assert (done.returncode, len(done.stdout.splitlines())) == (0, 3)
    assert "\\x1b[31m[red]" in done.stdout
    assert "\x1b" not in done.stdout + as_json.stdout
    assert [json.loads(line) for line in as_json.stdout.splitlines()] == [ONE, hostile]


@pytest.mark.parametrize(
    ("options", "code"), [([], 0), (["--connection", "process=70"], 0), (["--connection", "process=71"], 1)]
)
def test_nothing_of_a_named_process_is_code_1(options, code):
    """The command exits with 1 if the process that it names has no open connection."""
    with short_folder() as folder, answering(lookups_address(folder), connections_of([ONE])):
        assert dnstrail("connections", *options, "--run-dir", folder).returncode == code


def test_watching_goes_on_until_it_is_interrupted():
    """With --watch the connections are shown again and again, until Ctrl-C."""
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background ignores it
    with (
        short_folder() as folder,
        answering(lookups_address(folder), connections_of([ONE])),
        started("connections", "--watch", "--json", "--run-dir", folder) as watching,
    ):
        assert [json.loads(watching.stdout.readline()) for _ in range(2)] == [ONE, ONE]
        watching.send_signal(signal.SIGINT)
        assert watching.wait(PATIENCE) == 130


def test_a_cache_of_several_hosts_has_a_column_for_the_host():
    """If the cache follows several hosts, a column names them; else the table is as without."""
    console = Console(width=160)
    with console.capture() as shown:
        console.print(connection_table([{**ONE, "host": "alpha"}], 10, rivals=True, hosts=True))
    header, row = shown.get().splitlines()
    assert header.split()[-2:] == ["host", "rivals"]
    assert row.split()[-2:] == ["alpha", "-"]
    assert "host" not in drawn([ONE])[0]


def test_a_host_goes_without_a_capture_file():
    """A capture file is of one host: its host beside it is wrong usage."""
    refused = dnstrail("get", "--capture", "demo", "--connection", "host=alpha", "shop.example")
    assert refused.returncode == 2
    assert "--connection host goes without --capture" in refused.stderr
