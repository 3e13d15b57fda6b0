"""What each format prints."""

from __future__ import annotations

import json

import pytest

from builders.facts import BEGIN, SECOND, fact_of
from builders.log_entries import connection, live
from dnstrail.captured import Process
from dnstrail.events import DNS_TRANSACTION, NET_CONNECTION
from dnstrail.process.terminal import json_line
from dnstrail_cli.log import FORMATS
from dnstrail_cli.log_formats.printers import open_printer

NOW = BEGIN / SECOND
TABLE = """\
TIME (UTC)    PROCESS                   EVENT
11:06:40.000  curl(7)                   A a.example (20 ms) -> b.example, 192.0.2.1
"""
pytestmark = pytest.mark.usefixtures("utc")


@pytest.mark.parametrize("name", FORMATS)
def test_each_format_prints_both_kinds_of_entries(name, capsys):
    """Each format prints a question and a connection, each on one line that names it."""
    for topic, entry, word in ((DNS_TRANSACTION, live(fact_of()), "a.example"), (NET_CONNECTION, connection(), "shop")):
        printer = open_printer(name, topic, NOW)
        printer.print(entry)
        printer.release(NOW + 2)
        printed = capsys.readouterr().out
        assert word in printed.splitlines()[-1]
        printer.close()
        assert capsys.readouterr().out == ""


def test_the_table_waits_for_the_other_question(capsys):
    """A question for A is printed when a second has passed, or at the end."""
    printer = open_printer("table", DNS_TRANSACTION, NOW)
    printer.print(live(fact_of()))
    printer.release(NOW + 0.9)
    assert capsys.readouterr().out == ""
    printer.release(NOW + 1)
    assert capsys.readouterr().out == TABLE
    printer.print(live(fact_of(1)))
    printer.close()
    assert capsys.readouterr().out.endswith("192.0.2.1\n")


def test_json_is_printable():
    """A line of JSON has the values by their names, is printable ASCII, and leaves out what is unknown."""
    hostile = "\x1b[31m\x7f\u00e9\n"
    line = json_line(live(fact_of(process=Process(1, hostile))))
    assert (line.isascii(), line.isprintable()) == (True, True)
    row = json.loads(line)
    assert (row["process_name"], row["hop"], row["waited"], "for" in row) == (hostile, "client", 20_000_000, False)
    plain = live(fact_of())
    assert json.loads(json_line(plain))["relations"] == [list(relation) for relation in plain.relations]
