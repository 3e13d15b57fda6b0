"""The units under a real systemd: they start, answer, and come back after a kill and after a hang."""

from __future__ import annotations

import json
import re
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from dnstrail.bus.trust import RUN_DIR_OF_FLEET
from live import valkey_server
from live.namespaces import live_or_skip, skip
from live.processes import PATIENCE, wait_until
from live.systemd_host import ROOT, SystemdHost, systemd_host

WORKERS = ("cache", "findings", "history", "signatures", "probe")
ENABLED = re.search(r"systemctl enable --now (.*)", (ROOT / "docs/use/services.md").read_text())[1].split()
DNSMASQ = "--keep-in-foreground --no-resolv --no-hosts --conf-file=/dev/null --pid-file= --bind-interfaces"
EDITS = 256  # the first systemd with `systemctl edit --stdin`
WATCHDOG = "[Service]\nWatchdogSec=3\n"  # seconds; the unit has 30


@pytest.fixture(scope="module")
def host(tmp_path_factory) -> Iterator[SystemdHost]:
    """Yield a host on which the units are started."""
    live_or_skip("nsenter", "unshare", "systemd-sysusers", "dig")
    if not Path("/lib/systemd/systemd").exists():
        skip("systemd is not installed")
    version = subprocess.run(["systemctl", "--version"], capture_output=True, text=True, check=True).stdout.split()[1]
    if int(version) < EDITS:
        pytest.skip(f"systemd {version} cannot edit a unit from stdin")
    with systemd_host(tmp_path_factory.mktemp("host")) as booted:
        assert booted.run("systemd-sysusers").returncode == 0
        done = booted.run("systemctl", "start", *ENABLED, timeout=2 * PATIENCE)
        assert done.returncode == 0, done.stderr + booted.journal()
        serve = f"systemd-run --quiet --collect dnsmasq {DNSMASQ} --listen-address=127.0.0.1"
        names = [f"--address=/{name}.example/192.0.2.77" for name in ("unit", "relay.c2")]
        assert booted.run(*serve.split(), *names).returncode == 0
        yield booted


def blocks(page: str, title: str = "systemd") -> list[str]:
    """Return the blocks of a section of a page."""
    section = (ROOT / page).read_text().partition(f"\n## {title}\n")[2].partition("\n## ")[0]
    return re.findall(r"```sh\n(.*?)```", section, re.DOTALL)


def here(path: Path) -> str:
    """Return where the booted host has a file of the source."""
    return f"/opt/source/{path.relative_to(ROOT)}"


def unit(worker: str) -> str:
    """Return the unit of a worker."""
    return f"dnstrail-{worker}.service"


def is_found(host: SystemdHost) -> bool:
    """Let a process in a unit of its own resolve the name, and return whether the cache knows its address by now.

    Nothing waits for the process: `systemd-run --wait` needs D-Bus, which a bare host lacks.
    """
    query = ["dig", "+tries=1", "+time=1", "@127.0.0.1", "unit.example"]
    host.run("systemd-run", "--quiet", "--collect", *query)
    found = host.run("/opt/dnstrail/bin/dnstrail", "get", "--json", "unit.example")
    return found.returncode == 0 and json.loads(found.stdout)["ip_addresses"] == ["192.0.2.77"]


def findings(host: SystemdHost) -> list[dict]:
    """Let a process resolve a watched name, and return the findings about watched names that the journal has by now."""
    host.run("systemd-run", "--quiet", "--collect", "dig", "+tries=1", "+time=1", "@127.0.0.1", "relay.c2.example")
    show = re.search(r"(journalctl .*--unit dnstrail-findings.*)", (ROOT / "docs/use/services.md").read_text())[1]
    lines = host.run(*show.replace("--follow", "").split()).stdout.splitlines()
    found = [json.loads(line) for line in lines if line.startswith("{") and "findingId" in line]
    return [finding for finding in found if finding["eventName"] == "WATCHED_NAME"]


def is_replaced(host: SystemdHost, worker: str, process: str) -> bool:
    """Return whether a worker runs again, as another process."""
    running = host.show(unit(worker), "SubState") == "running"
    return running and host.show(unit(worker), "MainPID") not in (process, "0")


def test_the_units_work_together(host):
    """Each worker starts at once and stays, the probe has both subscribers, and a lookup finds what was resolved."""
    wait_until(lambda: is_found(host), "the address in the cache")
    assert [host.show(unit(worker), "NRestarts") for worker in WORKERS] == ["0"] * len(WORKERS)
    ready = host.run("journalctl", "--no-pager", "--output=cat", f"--unit={unit('probe')}", "--grep=ready").stdout
    assert [json.loads(line)["subscribers"] for line in ready.splitlines() if line[0] == "{"] == [2]


def test_the_probe_keeps_its_programs(host):
    """The compiled programs lie in the folder of the unit, which its user alone can read."""
    found = host.run("find", "/var/cache/dnstrail-probe", "-user", "dnstrail-probe", "-printf", "%y %m %f\n").stdout
    assert re.search(r"^d 700 dnstrail-probe$", found, re.MULTILINE)
    assert re.search(r"^f 600 [0-9a-f]{64}$", found, re.MULTILINE), found


def test_a_watched_name_is_a_finding_in_the_journal(host):
    """The command of the page shows a finding, with its trail, once a watched name was resolved."""
    wait_until(lambda: any(one["trail"] for one in findings(host)), "a finding in the journal")


def test_the_page_of_the_fleet_starts_its_units(host):
    """With the commands of the page store, sender and signatures run, and the store knows what the host resolved."""
    program = valkey_server.ROOT / "usr/bin/valkey-server"
    if not program.exists():
        skip("no valkey-server here: deploy/setup-fleet.sh unpacks it")
    library = next(valkey_server.ROOT.glob("usr/lib/*-linux-gnu"), valkey_server.ROOT)
    engine, store, sender = blocks("docs/use/fleet.md", "Ten lines to a first answer")[:3]
    apart = f"systemd-run --quiet --collect --same-dir --unit=engine --setenv=LD_LIBRARY_PATH={here(library)}"
    changes = {
        "sudo ": "",
        "subjectAltName=DNS:engine.example": "subjectAltName=IP:127.0.0.1",
        "engine.example": "127.0.0.1",
        "valkey-server --port": f"{apart} {here(program)} --port",
    }
    passwords = "for user in ADMIN STORE; do echo $user-PASSWORD >$(echo $user | tr A-Z a-z).password; done\n"
    enable = f"systemctl enable --now {unit('fleet-signatures')}\n"
    reach = ("bash", "-c", "exec 3<>/dev/tcp/127.0.0.1/6380")
    for script in (engine + passwords, store, sender + enable):
        changed = script
        for old, new in changes.items():
            changed = changed.replace(old, new)
        begin = "mkdir -p /root/fleet; cd /root/fleet; umask 077; PATH=/opt/dnstrail/bin:$PATH"
        done = host.run("sh", "-ec", f"{begin}\n{changed}", timeout=90)
        assert done.returncode == 0, done.stderr + host.journal()
        wait_until(lambda: host.run(*reach).returncode == 0, "the engine")

    def is_known() -> bool:
        ask = ("/opt/dnstrail/bin/dnstrail", "fleet", "get", "--json", "--run-dir", str(RUN_DIR_OF_FLEET))
        reply = host.run(*ask, "unit.example")
        return is_found(host) and reply.returncode == 0 and json.loads(reply.stdout)["hosts"][0]["host"] == "web1"

    wait_until(is_known, "the answer of the store")
    fleet = [unit(f"fleet-{worker}") for worker in ("send", "store", "signatures")]
    assert [(host.show(one, "SubState"), host.show(one, "NRestarts")) for one in fleet] == [("running", "0")] * 3
    assert host.run("systemctl", "disable", "--now", *fleet).returncode == 0


def test_a_reload_needs_no_further_package(host):
    """`systemctl reload` reaches the signature worker on a host without /bin/kill, which a small Debian lacks."""
    assert host.run("rm", "-f", "/bin/kill", "/usr/bin/kill").returncode == 0
    assert host.run("systemctl", "reload", unit("signatures")).returncode == 0
    log = ("journalctl", "--no-pager", "--output=cat", f"--unit={unit('signatures')}", "--grep=reloaded")
    wait_until(lambda: host.run(*log).stdout, "the reload")


@pytest.mark.parametrize("worker", WORKERS)
def test_a_killed_worker_comes_back(host, worker):
    """Systemd starts a worker that was killed again, and the cache learns new answers."""
    process = host.show(unit(worker), "MainPID")
    host.run("systemctl", "kill", "--kill-whom=main", "--signal=KILL", unit(worker))
    wait_until(lambda: is_replaced(host, worker, process), "the worker")
    wait_until(lambda: is_found(host), "the address in the cache")


@pytest.mark.parametrize("worker", ["cache", "probe"])
def test_a_hung_worker_is_replaced(host, worker):
    """Systemd ends a worker whose main loop stands still, and starts it again."""
    override = ["systemctl", "edit", "--runtime", "--stdin", unit(worker)]
    assert host.run(*override, text=WATCHDOG).returncode == 0
    assert host.run("systemctl", "restart", unit(worker)).returncode == 0
    process = host.show(unit(worker), "MainPID")
    host.run("systemctl", "kill", "--kill-whom=main", "--signal=STOP", unit(worker))
    wait_until(lambda: is_replaced(host, worker, process), "the worker")
    # A busy machine may starve a worker for three seconds: the next tests get the unit's own time again.
    host.run("rm", "-r", f"/run/systemd/system/{unit(worker)}.d")
    assert host.run("systemctl", "daemon-reload").returncode == 0
    assert host.run("systemctl", "restart", unit(worker)).returncode == 0, host.journal()
    assert host.show(unit(worker), "WatchdogUSec") == "30s"
    wait_until(lambda: is_found(host), "the address in the cache")


def test_the_history_answers_for_a_time_before_the_cache(host):
    """A cache without its state forwards a lookup of an earlier time to the unit of the history."""
    wait_until(lambda: is_found(host), "the address in the cache")
    at = time.time()
    stored = ("/opt/dnstrail/bin/dnstrail", "log", "--last", "1", "--name", "unit.example", "--json")
    wait_until(lambda: host.run(*stored).stdout, "the question in the history")
    for command in ("systemctl stop {0} {1}", "rm -r /var/lib/dnstrail/image", "systemctl start {0} {1}"):
        done = host.run(*command.format(unit("probe"), unit("cache")).split())
        assert done.returncode == 0, done.stderr

    def source() -> str:
        found = host.run("/opt/dnstrail/bin/dnstrail", "get", "--json", "--at", f"{at:.6f}", "unit.example")
        return json.loads(found.stdout).get("source", "") if found.returncode == 0 else ""

    wait_until(lambda: source() == "history", "the answer of the history")


def test_the_units_of_several_hosts_find_each_other_with_keys(host):
    """The commands of the page make keys and drop-ins; with these keys the signatures follow probe and cache by tcp.

    An upgrade of the package succeeds while the cache lacks the key of its probe, and cannot start.
    """
    make, allow, restart = blocks("docs/use/hosts.md")
    done = host.run("sh", "-ec", f"cd /opt/source\n{make}")
    assert done.returncode == 0, done.stderr
    upgraded = host.run("sh", here(ROOT / "deploy/debian/postinst"), "configure", "0.1")
    assert (upgraded.returncode, "dnstrail-cache.service failed" in upgraded.stderr) == (0, True), upgraded.stderr
    keys = dict(zip(("probe", "cache", "signatures"), done.stdout.split(), strict=True))
    places = "s/192[.]0[.]2[.]/127.0.0./g"  # probe and cache have an address each
    host.run("sh", "-ec", f"sed -i '{places}' /etc/systemd/system/dnstrail-*.service.d/hosts.conf")
    for worker, arguments in (
        ("probe", ("cache", keys["cache"])),
        ("probe", ("signatures", keys["signatures"])),
        ("cache", ("detector", keys["signatures"])),
        ("cache", ("--server", "127.0.0.1", "--host", "alpha", keys["probe"])),
        ("signatures", ("--server", "127.0.0.1", "--host", "alpha", keys["probe"])),
        ("signatures", ("--server", "127.0.0.9", "--host", "central", keys["cache"])),
    ):
        words = allow[: allow.index("--server")].split()
        words[words.index("--reuid") + 1] = host.show(unit(worker), "User")
        words = [word.replace("cache-keys", f"{worker}-keys") for word in words]
        allowed = host.run(*words, *arguments)
        assert allowed.returncode == 0, allowed.stderr
    restarted = host.run("sh", "-ec", restart)
    assert restarted.returncode == 0, restarted.stderr + host.journal()

    def is_member() -> bool:
        stats = host.run("/opt/dnstrail/bin/dnstrail", "stats", "--json").stdout
        return bool(stats) and any("detector" in group for group in json.loads(stats)["groups"])

    wait_until(is_member, "the signature worker in the group of its key")
    wait_until(lambda: any(one["hostName"] == "alpha" for one in findings(host)), "a finding of the other host")
