"""`--connection KEY=VALUE,...` describes a connection; the spellings before it warn for one release."""

from __future__ import annotations

import json

import pytest

from dnstrail.connection import Connection
from dnstrail.errors import SettingsError
from dnstrail_cli.lookups.options import parse_connection
from live.processes import dnstrail


def test_all_values_describe_one_connection():
    """Keys of one value and of several are joined, in either spelling, and an address is in canonical text."""
    found = parse_connection(["process=7,port=443", "source-port=5,client=::ffff:10.0.0.2", "container=c", "host=h"])
    assert found == Connection(7, "c", "10.0.0.2", 443, 5, host="h")


@pytest.mark.parametrize(
    "text", ["", "process", "process=", "pid=7", "port=65536", "port=-1", "port=\u0667", "client=here"]
)
def test_another_value_is_refused(text):
    """A key that is none, or a value that its key cannot have, is refused by name."""
    with pytest.raises(SettingsError, match="--connection"):
        parse_connection([text])


def test_an_earlier_spelling_works_and_warns():
    """`--client ADDRESS` does what `--connection client=ADDRESS` does, and names it on stderr."""
    asked = ("trail", "--capture", "demo", "--json", "192.0.2.10")
    now = dnstrail(*asked, "--connection", "client=192.0.2.100,port=443")
    before = dnstrail(*asked, "--client", "192.0.2.100", "--port", "443")
    assert json.loads(before.stdout) == json.loads(now.stdout)
    assert now.stderr == ""
    assert "--client goes away with the next release: use --connection client=VALUE" in before.stderr
