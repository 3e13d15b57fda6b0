"""`dnstrail run --check-server-name`: at a shared address, only connections that state the allowed name pass."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from dnstrail_run.enforce.server_name import MOST_EXTENSIONS, MOST_HEADER
from live import stated_names
from live.certificate import make_certificate
from live.enforced import LISTED_RUN, enforced, watched
from live.listed_network import RESOLVER, SHARED, ListedNetwork, listed_network, serving
from live.namespaces import live_or_skip
from live.processes import run_dir, wait_until
from live.run_commands import within
from live.stated_names import LONGEST, NAME, OTHER, request

HANDSHAKES = os.environ.get("DNSTRAIL_STATED_TRIES", "100")  # of each name
FORMS = os.environ.get("DNSTRAIL_STATED_FORMS", "3")  # tries of each form
SUPPORT = Path(stated_names.__file__).parents[1]
MODULE = ("env", f"PYTHONPATH={SUPPORT}", sys.executable, "-m", "live.stated_names")
CHECKED = (*LISTED_RUN, "--check-server-name")
FAST_OPEN = "net.ipv4.tcp_fastopen=0x607"  # without cookies, on each side
JAVA = """
import javax.net.ssl.*;
public class Says {
    public static void main(String[] words) throws Exception {
        TrustManager any = new X509ExtendedTrustManager() {
            public void checkClientTrusted(java.security.cert.X509Certificate[] c, String a) {}
            public void checkServerTrusted(java.security.cert.X509Certificate[] c, String a) {}
            public void checkClientTrusted(java.security.cert.X509Certificate[] c, String a, java.net.Socket s) {}
            public void checkServerTrusted(java.security.cert.X509Certificate[] c, String a, java.net.Socket s) {}
            public void checkClientTrusted(java.security.cert.X509Certificate[] c, String a, SSLEngine e) {}
            public void checkServerTrusted(java.security.cert.X509Certificate[] c, String a, SSLEngine e) {}
            public java.security.cert.X509Certificate[] getAcceptedIssuers() { return null; }
        };
        SSLContext context = SSLContext.getInstance("TLS");
        context.init(null, new TrustManager[] {any}, null);
        java.net.Socket made = new java.net.Socket("shared.test", 443);
        SSLSocket tls = (SSLSocket) context.getSocketFactory().createSocket(made, words[0], 443, true);
        tls.startHandshake();
    }
}
"""
NODE = """
const tls = require("tls");
tls.connect({host: "shared.test", port: 443, servername: process.argv[1], rejectUnauthorized: false},
            () => process.exit(0)).on("error", () => process.exit(1));
"""
# Clients of OpenSSL, GnuTLS, Node and Java, each with the name that it is to state.
CLIENTS = f"""
try() {{ echo "$1" "$2" "$(shift 2; "$@" > /dev/null 2>&1 && echo passed || echo failed)"; }}
for name in {NAME} {OTHER}; do
    try openssl $name sh -c "echo | openssl s_client -connect {NAME}:443 -servername $name"
    try curl $name curl -sk --resolve $name:443:{SHARED} https://$name/
    try gnutls $name git -c http.sslVerify=false -c http.curloptResolve=$name:443:{SHARED} ls-remote https://$name/x
    try http $name curl -s --resolve $name:8080:{SHARED} http://$name:8080/
    try node $name node -e '{NODE}' $name
    try java $name java -cp . Says $name
done
"""


@pytest.fixture(scope="module")
def network() -> Iterator[ListedNetwork]:
    """Yield a client with the list, and its resolver."""
    live_or_skip("curl", "git", "openssl", "node", "javac")
    with run_dir() as made:
        made.chmod(0o755)
        with listed_network(made, 1) as both, watched():
            both.ask(RESOLVER)
            for host in (both.hosts.client, both.hosts.server):
                subprocess.run(["ip", "netns", "exec", host, "sysctl", "-qw", FAST_OPEN], check=True)
            yield both


@pytest.fixture
def stated(network, folder) -> Iterator[Path]:
    """Yield the file of the names and bytes that reach servers at the shared address."""
    make_certificate(folder, NAME, SHARED)
    with serving(network.hosts, folder / "stated", *MODULE, "serve", str(folder)) as file:
        yield file


def results_of(out: str) -> dict[str, Counter[str]]:
    return {form: Counter(result for result, _ in found) for form, found in json.loads(out).items()}


def test_only_the_allowed_name_passes(network, folder, stated):
    """Whatever states no allowed name is ended before a byte of it arrives; each form that states it passes."""
    assert (LONGEST, MOST_EXTENSIONS) == (MOST_HEADER, 64), "the forms reach the bounds"
    report, out = enforced(network, folder, *MODULE, "forms", FORMS, prefix=CHECKED)
    tries = int(FORMS)
    expected = {
        form: {"EPERM" if "datagram" in form else "ECONNABORTED": tries} for form in stated_names.unstated_forms()
    }
    expected |= {f"stated {form}": {"ok": tries} for form in stated_names.STATED}
    assert results_of(out) == expected
    arrived = [bytes.fromhex(line.split()[1]) for line in stated.read_text().splitlines() if line.startswith("raw")]
    assert len(arrived) == tries * (len(stated_names.STATED) + 1), (
        "and the first connection of a socket that connects again"
    )
    assert all(NAME.encode() in data.lower() and OTHER.encode() not in data for data in arrived)
    reasons = {(one["action"], one["reason"], one["transport"]) for one in report["refused"]}
    assert reasons == {("state", "other", "tcp"), ("state", "unstated", "tcp"), ("state", "unstated", "udp")}


def test_each_handshake_with_the_allowed_name(network, folder, stated):
    """Each handshake with the allowed name succeeds, and each with another name ends at once."""
    _, out = enforced(network, folder, *MODULE, "clients", HANDSHAKES, prefix=CHECKED)
    assert results_of(out) == {NAME: {"ok": int(HANDSHAKES)}, OTHER: {"ECONNABORTED": int(HANDSHAKES)}}
    assert Counter(stated.read_text().splitlines()[1:]) == {f"tls {NAME}": int(HANDSHAKES)}


def test_clients_state_their_names(network, folder, stated):
    """Clients of OpenSSL, GnuTLS, Node and Java reach the allowed name, and another name at its address fails."""
    (folder / "Says.java").write_text(JAVA)
    subprocess.run(["javac", "Says.java"], cwd=folder, check=True)
    report, out = enforced(network, folder, "sh", "-c", CLIENTS, prefix=CHECKED)
    found = {tuple(line.split()[:2]): line.split()[2] for line in out.splitlines()}
    assert found.pop(("gnutls", NAME)) == "failed", "it reads what is no repository"
    programs = ("openssl", "curl", "http", "node", "java")
    assert found == {(program, NAME): "passed" for program in programs} | {
        (program, OTHER): "failed" for program in (*programs, "gnutls")
    }
    assert Counter(stated.read_text().splitlines()[1:])[f"tls {NAME}"] == len(programs)
    assert OTHER not in stated.read_text()
    assert {one["name"] for one in report["refused"]} == {OTHER}
    assert report["exit_code"] == 0


def test_what_need_not_state_a_name(network, folder, stated):
    """An entry with `unchecked`, and an address of the list, let other protocols and QUIC pass."""
    script = f"""
import socket, sys
sys.path.insert(0, {str(SUPPORT)!r})
from live.stated_names import *
(*_, (address, *_)), *_ = socket.getaddrinfo({NAME!r}, 80, socket.AF_INET)
for port in RAW, HTTP:
    with socket.create_connection((address, port), timeout=20) as made:
        try:
            made.send(b"SSH-2.0-x\\r\\n")
            print(made.recv(1))
        except OSError as error:
            print(error.errno)
with socket.socket(type=socket.SOCK_DGRAM) as made:
    made.sendto(b"x", (address, RAW))
    print("sent")
"""
    for entry in (f"{NAME}:9000 unchecked", f"{SHARED}:9000"):
        (folder / "allowed").write_text(f"{NAME}\n{entry}\n")
        report, out = enforced(network, folder, sys.executable, "-c", script, prefix=CHECKED)
        assert out.splitlines() == ["b'x'", "103", "sent"]
        assert [(one["port"], one["reason"]) for one in report["refused"]] == [(8080, "unstated")]


def test_the_name_must_have_led_to_the_address(network, folder, stated):
    """A listed name that was not asked, or whose answer led elsewhere, is no name of the address."""
    (folder / "allowed").write_text(f"{NAME}\n{OTHER}\n")
    script = f"""
import sys
sys.path.insert(0, {str(SUPPORT)!r})
from live.stated_names import *
from live.stated_names import _result, _sent
print(_result(lambda: _sent(hello(OTHER)))[0])
socket.getaddrinfo(OTHER, 80)
print(_result(lambda: _sent(hello(OTHER)))[0])
"""
    report, out = enforced(network, folder, sys.executable, "-c", script, prefix=CHECKED)
    assert out.splitlines() == ["ECONNABORTED", "ok"]
    (reason,) = report["not_allowed"]
    assert reason.endswith(f"{OTHER} is in the list, but no answer of a resolver led to this address")


@pytest.mark.parametrize("afterwards", ["refuse", "allow"])
def test_an_open_connection_after_a_kill(network, folder, stated, afterwards):
    """After a kill of dnstrail and its launcher, an open connection that stated nothing passes as --on-crash says."""
    script = f"""
import os, sys, time
sys.path.insert(0, {str(SUPPORT)!r})
from live.stated_names import *
from live.stated_names import _result
made = socket.create_connection((NAME, RAW), timeout=3)
launcher = os.getppid()
Path("launcher.new").write_text(str(launcher))
os.rename("launcher.new", "launcher")
while os.getppid() == launcher:
    time.sleep(0.02)
made.send(request(f"Host: {{OTHER}}"))
Path("result.new").write_text(_result(lambda: len(made.recv(1)))[0])
os.rename("result.new", "result")
"""
    run = (*CHECKED, "--on-crash", afterwards, "--quiet", "--", sys.executable, "-c", script)
    with subprocess.Popen(within(network.hosts, *run), cwd=folder) as process:
        try:
            wait_until((folder / "launcher").exists, "the command")
            os.kill(int((folder / "launcher").read_text()), signal.SIGKILL)
        finally:
            process.kill()
    wait_until((folder / "result").exists, "the end of the command")
    arrived = ["raw " + request(f"Host: {OTHER}").hex()] if afterwards == "allow" else []
    assert stated.read_text().splitlines()[1:] == arrived
