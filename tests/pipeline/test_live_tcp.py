from __future__ import annotations

import json
import os
import signal
import subprocess
import sys

import pytest

from dnstrail.bus.ipc import lookups_address
from dnstrail.capture_options import CaptureOptions
from dnstrail.captured import CLIENT as ASKS
from dnstrail.captured import SERVER
from dnstrail.events import NET_PACKET_DNS
from dnstrail.process.clock import StreamClock
from dnstrail_probe.ebpf.source import EbpfSource
from live.namespaces import GOOGLE, Hosts
from live.namespaces import SERVER as ADDRESS
from live.processes import PATIENCE, run_dir, started, wait_until
from live.workers import asker


def dig(network: Hosts, name: str, *options: str) -> None:
    """Send one query over TCP."""
    done = network.on_client("dig", "+tcp", "+short", "+tries=1", "+time=60", f"@{ADDRESS}", *options, name)
    assert GOOGLE in done.stdout, done.stdout + done.stderr


def test_ebpf_sees_dns_over_tcp_with_its_process(network):
    """A query over TCP and its response are captured once at each end, with process and role."""
    source = EbpfSource(CaptureOptions(), StreamClock())
    seen = []

    def all_seen() -> bool:
        seen.extend(
            event for topic, event in source.read(0.01) if topic == NET_PACKET_DNS and b"\6ebpf01" in event.payload
        )
        return len(seen) >= 4

    try:
        dig(network, "ebpf01.google.com")
        wait_until(all_seen, "the question and the answer, at both ends")
    finally:
        source.close()
    assert {event.flow.transport for event in seen} == {"tcp"}
    ours = [event for event in seen if event.process.path.endswith("/dig")]
    assert sorted((event.flow.egress, event.flow.role, event.payload[2] >> 7) for event in ours) == [
        (False, ASKS, 1),
        (True, ASKS, 0),
    ]
    theirs = [event for event in seen if event.process.name == "dnsmasq"]
    assert sorted((event.flow.egress, event.flow.role, event.payload[2] >> 7) for event in theirs) == [
        (False, SERVER, 0),
        (True, SERVER, 1),
    ]
    assert len({event.payload for event in seen}) == 2


@pytest.mark.parametrize("capture", ["ebpf", "packet"])
def test_names_resolved_over_tcp_are_in_the_image(network, capture):
    """A name that was resolved over TCP is in the image, by either live source."""
    with run_dir() as folder, started("cache", "--run-dir", folder):
        command = [sys.executable, "-m", "dnstrail_probe", "--capture", capture]
        command += ["--run-dir", str(folder), "--subscribers", "1"]
        if capture == "packet":  # an AF_PACKET socket captures its own network namespace alone
            command = ["ip", "netns", "exec", network.client, *command]
        probe = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        try:
            wait_until(lambda: "ready" in probe.stderr.readline(), "the probe")
            dig(network, f"{capture}02.google.com")
            dig(network, f"{capture}03.google.com", "+keepopen", f"{capture}04.google.com")
            with asker(lookups_address(folder)) as client:
                for number in (2, 3, 4):
                    name = f"{capture}0{number}.google.com"
                    wait_until(lambda name=name: client.ask("get", key=name)["ok"], f"{name} in the image")

                def counted() -> dict[str, int]:
                    return next(iter(client.ask("stats")["data"]["probes"].values()))

                wait_until(
                    lambda: counted().get("tcp_segments", 0), "the counters, which follow with the end of a turn"
                )
                assert not {"tcp_gap", "tcp_incomplete", "tcp_out_of_step"} & counted().keys()
        finally:
            probe.terminate()
            probe.wait(PATIENCE)
            probe.stderr.close()


def test_server_names_become_events_if_the_option_is_set(network):
    """The name in a ClientHello and the Host of a request become events, also if they are split."""
    domain = f"names{os.getpid()}.example"  # other programs of this host state names, too
    script = """
import socket, ssl, threading
server = socket.create_server(("127.0.0.1", 0))
def serve():
    for _ in range(3):
        connection, _ = server.accept()
        with connection:
            while connection.recv(65536):
                pass
threading.Thread(target=serve).start()
def send(*parts):
    with socket.create_connection(server.getsockname()) as client:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for part in parts:
            client.sendall(part)
sent = ssl.MemoryBIO()
try:
    ssl.create_default_context().wrap_bio(ssl.MemoryBIO(), sent, server_hostname="tls.DOMAIN").do_handshake()
except ssl.SSLWantReadError:
    hello = sent.read()
send(hello)
send(b"GET / HTTP/1.1\\r\\n", b"Host: http.", b"DOMAIN:80\\r\\n\\r\\n", bytes(1 << 20))
send(hello[:600].replace(b"tls.DOMAIN", b"two.DOMAIN"), hello[600:].replace(b"tls.DOMAIN", b"two.DOMAIN"))
""".replace("DOMAIN", domain)
    with run_dir() as folder:
        command = [sys.executable, "-m", "dnstrail_cli", "--capture", "ebpf", "--evidence", "sni"]
        command += ["--run-dir", str(folder / "run"), "--events", "net_server_name", "--output", "json"]
        folder.chmod(0o755)  # nobody has to reach the sockets within
        run = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        try:
            wait_until(lambda: "dnstrail: ready" in run.stderr.readline(), "the pipeline")
            done = network.on_client(sys.executable, "-c", script)
            assert done.returncode == 0, done.stderr
            ours: list[dict] = []
            while len(ours) < 3:
                event = json.loads(run.stdout.readline())
                args = {arg["name"]: arg["value"] for arg in event["args"]}
                ours += [event | args] if args["server_name"].endswith(domain) else []
        finally:
            run.send_signal(signal.SIGINT)
            run.communicate(timeout=PATIENCE)
    assert [(one["server_name"], one["evidence"], one["dst"]) for one in ours] == [
        (f"tls.{domain}", "sni", "127.0.0.1"),
        (f"http.{domain}", "host", "127.0.0.1"),
        (f"two.{domain}", "sni", "127.0.0.1"),
    ]
    assert all(one["processName"].startswith("python") for one in ours)
