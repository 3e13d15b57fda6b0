"""The cases of docs/reference/events.md that wait for the timeout of a question, at real sockets."""

from __future__ import annotations

import subprocess
import sys

from builders.talk import answer, query
from dnstrail.image.queries import WINDOW
from live.cases import ANSWER, ASK, cases
from live.namespaces import CLIENT, SENDER, SERVER, Hosts
from live.processes import PATIENCE

# Asks a server (hex), and prints the port.
ASK_AND_WAIT = """
import socket, sys
end = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
end.bind((sys.argv[1], 0))
end.sendto(bytes.fromhex(sys.argv[3]), (sys.argv[2], 53))
print(end.getsockname()[1], flush=True)
end.recv(512)
"""


def test_timeouts_on_an_idle_host(network: Hosts):
    """No packet comes for thirty seconds: each question ends as unanswered. An answer after that changes nothing."""
    with cases() as service:
        asking = (sys.executable, "-c", ASK_AND_WAIT, CLIENT, SENDER, query("late.test").hex())
        with network.start_on_client(*asking) as late:
            port = late.stdout.readline().strip()
            assert network.on_client(sys.executable, "-c", ASK, "gone.test", SENDER, "0").returncode == 0
            [gone] = service.check("nobody answers for 30 seconds", "gone.test")
            [unanswered] = service.check("the answer comes after 30 seconds", "late.test")
            on_server = ("ip", "netns", "exec", network.server, sys.executable, "-c", ANSWER)
            response = answer(name="late.test").hex()
            subprocess.run([*on_server, SENDER, CLIENT, port, response], check=True)
            assert late.wait(PATIENCE) == 0, "the client received it"
        assert gone["waited"] == unanswered["waited"] == WINDOW
        assert "rcode" not in gone
        assert service.check_again(lambda name: network.on_client("dig", f"@{SERVER}", name))
