"""The change of user: what a process needs afterwards, it has loaded before."""

from __future__ import annotations

import os
import subprocess
import sys

import dns.message
import dns.rrset
import pytest

HASH = "00" * 32
CODE = """
import sys
from types import SimpleNamespace
from dnstrail.dns.names import lookup_key
from dnstrail.events import Event
from dnstrail.process.privileges import drop_privileges
from dnstrail.users import User

wire = bytes.fromhex(sys.argv[1])
drop_privileges(User(65534, 65534))
sys.meta_path.clear()  # as if this user could read no module
print(Event("x", SimpleNamespace(payload=wire)).dns.answer[0], lookup_key("\\u00fc.example"))
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_another_user_reads_whole_messages_and_names():
    """A process that became another user imports nothing to parse a whole message, or a name in Unicode."""
    answer = dns.message.make_response(dns.message.make_query("a.example", "TLSA"))
    answer.answer.append(dns.rrset.from_text("a.example.", 60, "IN", "TLSA", f"3 1 1 {HASH}"))
    words = [sys.executable, "-c", CODE, answer.to_wire().hex()]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == (f"a.example. 60 IN TLSA 3 1 1 {HASH} xn--tda.example\n", "")
