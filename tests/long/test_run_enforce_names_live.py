"""`dnstrail run --check-server-name`: at a shared address, only connections that state the allowed name pass."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

from dnstrail_run.enforce.server_name import MOST_EXTENSIONS, MOST_HEADER
from live import stated_names
from live.certificate import make_certificate
from live.enforced import LISTED_RUN, enforced, watched
from live.listed_network import RESOLVER, SHARED, ListedNetwork, listed_network, serving
from live.namespaces import REQUIRED, live_or_skip
from live.processes import run_dir, wait_until
from live.run_commands import within
from live.stated_names import COVER, HIDDEN, LONGEST, NAME, OTHER, https_records, print_times, request

HANDSHAKES = os.environ.get("DNSTRAIL_STATED_TRIES", "100")  # of each name
TRIES = int(os.environ.get("DNSTRAIL_CLIENT_TRIES", "2"))  # of each client
FORMS = os.environ.get("DNSTRAIL_STATED_FORMS", "3")  # tries of each form
SUPPORT = Path(stated_names.__file__).parents[1]
MODULES = ("env", f"PYTHONPATH={SUPPORT}", sys.executable, "-m")
MODULE = (*MODULES, "live.stated_names")
CHECKED = (*LISTED_RUN, "--check-server-name")
HAS_CHROMIUM = bool(shutil.which("chromium") and find_spec("playwright"))
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
        int passed = 0;
        for (int left = Integer.parseInt(words[1]); left > 0; left--) {
            java.net.Socket made = new java.net.Socket("shared.test", 443);
            try (SSLSocket tls = (SSLSocket) context.getSocketFactory().createSocket(made, words[0], 443, true)) {
                tls.startHandshake();
                passed++;
            } catch (java.io.IOException error) {
            }
        }
        System.out.println(passed);
    }
}
"""
NODE = """
const tls = require("tls");
let passed = 0;
function next(left) {
    if (left == 0) {
        console.log(passed);
        return;
    }
    const made = tls.connect(
        {host: "shared.test", port: 443, servername: process.argv[2], rejectUnauthorized: false},
        () => { passed++; made.end(); },
    );
    made.on("error", () => {}).on("close", () => next(left - 1)).resume();
}
next(Number(process.argv[3]));
"""
GO = """
package main

import (
	"crypto/tls"
	"fmt"
	"os"
	"strconv"
)

func main() {
	passed := 0
	tries, _ := strconv.Atoi(os.Args[2])
	for ; tries > 0; tries-- {
		made, err := tls.Dial("tcp", "shared.test:443", &tls.Config{ServerName: os.Args[1], InsecureSkipVerify: true})
		if err == nil {
			passed++
			made.Close()
		}
	}
	fmt.Println(passed)
}
"""
# Each client with the name that it is to state, and how many handshakes passed.
CLIENTS = f"""
try() {{ echo $1 $2 $(shift 2; for _ in $(seq {TRIES}); do "$@" > /dev/null 2>&1 && echo; done | wc -l); }}
program() {{ echo $1 $2 $(shift 2; "$@"); }}
for name in {NAME} {OTHER}; do
    try openssl $name sh -c "echo | openssl s_client -connect {NAME}:443 -servername $name"
    try curl $name curl -sk --resolve $name:443:{SHARED} https://$name/
    ! curl --version | grep -q HTTP3 || try http3 $name curl --http3 -sk --resolve $name:443:{SHARED} https://$name/
    try gnutls $name sh -c "echo | gnutls-cli --insecure --sni-hostname $name --port 443 {NAME}"
    try http $name curl -s --resolve $name:8080:{SHARED} http://$name:8080/
    try git $name git -c http.sslVerify=false -c http.curloptResolve=$name:443:{SHARED} ls-remote https://$name/x
    program node $name node says.js $name {TRIES}
    program java $name java -cp . Says $name {TRIES}
    [ ! -x says ] || program go $name ./says $name {TRIES}
done
{f"{shlex.join(MODULES)} live.stating_browser {TRIES}" if HAS_CHROMIUM else ""}
"""


@pytest.fixture(scope="module")
def network() -> Iterator[ListedNetwork]:
    """Yield a client with the list, and its resolver."""
    live_or_skip("curl", "git", "gnutls-cli", "openssl", "node", "javac")
    with run_dir() as made:
        made.chmod(0o755)
        with listed_network(made, 1, *https_records(), f"--host-record={HIDDEN},{SHARED}") as both, watched():
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
    print_times(json.loads(out))
    assert results_of(out) == {NAME: {"ok": int(HANDSHAKES)}, OTHER: {"ECONNABORTED": int(HANDSHAKES)}}
    assert Counter(stated.read_text().splitlines()[1:]) == {f"tls {NAME}": int(HANDSHAKES)}


def test_clients_state_their_names(network, folder, stated):
    """Clients of many libraries reach the allowed name, and another name at its address fails."""
    (folder / "allowed").write_text(f"{NAME}\n{HIDDEN}\n")
    (folder / "Says.java").write_text(JAVA)
    (folder / "says.js").write_text(NODE)
    (folder / "says.go").write_text(GO)
    subprocess.run(["javac", "Says.java"], cwd=folder, check=True)
    clients = {"openssl", "curl", "gnutls", "http", "node", "java"}
    if "HTTP3" in subprocess.run(["curl", "--version"], capture_output=True, text=True, check=True).stdout:
        clients.add("http3")
    if shutil.which("go"):
        built = {"CGO_ENABLED": "0", "GOCACHE": str(folder / "cache"), "GO111MODULE": "off"}
        subprocess.run(["go", "build", "-o", "says", "says.go"], cwd=folder, env={**os.environ, **built}, check=True)
        clients.add("go")
    if HAS_CHROMIUM:
        clients.add("chromium")
    assert HAS_CHROMIUM or REQUIRED not in os.environ, "chromium or playwright is missing: deploy/setup-web.sh"
    report, out = enforced(network, folder, "sh", "-c", CLIENTS, prefix=CHECKED, patience=240 + 4 * TRIES)
    found = {(client, name): int(passed) for client, name, passed in map(str.split, out.splitlines())}
    assert found.pop(("git", NAME)) == 0, "it reads what is no repository"
    found.pop(("chromium", HIDDEN), None)  # some can pass before Chromium has the key: they are not encrypted
    assert found == {(client, NAME): TRIES for client in clients} | {(client, OTHER): 0 for client in (*clients, "git")}
    assert Counter(stated.read_text().splitlines()[1:])[f"tls {NAME}"] >= TRIES * len(clients)
    assert OTHER not in stated.read_text()
    assert COVER not in stated.read_text(), "the outer name of an encrypted ClientHello must be allowed, too"
    refused = {(one["name"], one["transport"]) for one in report["refused"] if one["action"] != "reach"}
    assert {OTHER} <= {name for name, transport in refused if transport == "tcp"} <= {OTHER, COVER}
    assert "http3" not in clients or "udp" in {transport for _, transport in refused}, "the name of QUIC is not read"
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
made = socket.create_connection((NAME, RAW), timeout=60)
made.settimeout({60 if afterwards == "allow" else 3})
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
