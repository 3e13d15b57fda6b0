"""`dnstrail stats --watch`: the live table of counters."""

from __future__ import annotations

import json
import signal
from functools import partial

import pytest
from rich.console import Console

from dnstrail_cli.lookups.tables import numbers, rate_table, rate_tables, show_live
from live.processes import PATIENCE, started
from live.workers import FakeClock, cache, short_folder


def rows(table):
    """Return the lines of a table."""
    console = Console(width=80)
    with console.capture() as shown:
        console.print(table)
    return [line.split() for line in shown.get().splitlines() if line.strip()]


def test_the_table_shows_rates():
    """A counter that changed shows its change by second, and another one its value alone."""
    table = rate_table({"a": 1500, "b": 7}, {"a": 500, "b": 7}, 2.0, 20)
    assert rows(table)[1:] == [["a", "1,500", "500.0"], ["b", "7"]]


def test_counters_that_changed_come_first():
    """If the terminal has too few lines, the counters that changed are shown, with the number of the others."""
    present = dict.fromkeys("abcdef", 1) | {"z": 9}
    shown = rows(rate_table(present, dict.fromkeys("abcdefz", 1), 1.0, 2))
    assert [row[0] for row in shown[1:3]] == ["z", "a"]
    assert shown[3][:3] == ["5", "further", "counters:"]


def test_only_numbers_that_are_not_zero_are_shown():
    """Counters that are 0, and values that are no numbers, are left out; a nested counter has a full name."""
    counters = {"image": {"roots": 3, "query": 0}, "probes": {"x": {"live": False, "packets": 2}}}
    assert numbers(counters) == {"image.roots": 3, "probes.x.packets": 2}


def test_a_counter_that_began_later_has_no_rate():
    """A counter that was not there before shows no rate."""
    assert rows(rate_table({"a": 5}, {}, 1.0, 20))[1:] == [["a", "5"]]


def test_without_a_terminal_each_table_is_printed(capsys):
    """Each look prints a table of its own."""
    clock = FakeClock()

    def looks():
        for number in (1, 11):
            clock.advance(2)
            yield {"image": {"roots": number}}

    show_live(partial(rate_tables, looks(), clock.monotonic))
    assert "5.0" in capsys.readouterr().out.splitlines()[-1]


@pytest.mark.parametrize("option", ["--json", None])
def test_watching_goes_on_until_it_is_interrupted(option):
    """The command prints counters again and again, and ends with Ctrl-C."""
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background ignores it
    with short_folder() as folder, cache(folder):
        options = [option] if option else []
        with started("stats", "--watch", *options, "--run-dir", folder) as watching:
            lines = [watching.stdout.readline() for _ in range(2)]
            if option:
                first, second = (json.loads(line)["cache"]["requests"] for line in lines)
                assert 0 < first < second  # a busy host may let a request be repeated
            else:
                assert lines[0].split() == ["counter", "value", "per", "second"]
            watching.send_signal(signal.SIGINT)
            assert watching.wait(PATIENCE) == 130
