from __future__ import annotations

import configparser
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from dnstrail.bus.ipc import events_address, findings_address, history_address, lookups_address
from dnstrail.bus.trust import RUN_DIR_OF_FLEET
from dnstrail.pipeline import FLEET, HISTORY, SENDER
from dnstrail.process.config_file import DEFAULT, FLEET_SIGNATURES, TABLES
from dnstrail.process.heartbeat import SILENCE
from dnstrail_cli.__main__ import main_command
from dnstrail_cli.fleet.command import fleet
from dnstrail_findings.targets import parse_target
from dnstrail_fleet.engine_option import JOINED
from dnstrail_fleet.log.engine_address import EngineAddress, encode_invitation
from live.namespaces import skip
from live.processes import PATIENCE
from live.stack_images import workers_of_compose

UNITS = sorted((Path(__file__).parents[1] / "deploy/systemd").glob("*.service"))
METRICS = UNITS[0].parent / "metrics"
OUTPUTS = UNITS[0].parent / "outputs/dnstrail-findings.conf"
COMPOSE = Path(__file__).parents[1] / "docker-compose.yml"
SYSUSERS = Path(__file__).parents[1] / "deploy/systemd/dnstrail.sysusers"
USERS = {
    "probe": "dnstrail-probe",
    "cache": "dnstrail",
    "signatures": "dnstrail-signatures",
    "findings": "dnstrail-findings",
    "history": "dnstrail-history",
    "web": "dnstrail-history",  # whose files it reads
    "fleet-send": "dnstrail-history",  # likewise
    "fleet-store": "dnstrail-fleet",
    "fleet-signatures": "dnstrail-fleet-signatures",
}
UNIT = {unit.stem.removeprefix("dnstrail-"): unit for unit in UNITS}
OF_FLEET = [worker for worker in USERS if worker.startswith("fleet-")]
USER_OF_IMAGE = re.compile(r"useradd .*--uid (\d+) .* (\S+) &&")
EXPOSURE = 25  # tenths
PREFIX = "/opt/dnstrail/bin/dnstrail"


def service(unit, section="Service"):
    parser = configparser.ConfigParser(interpolation=None, strict=False, delimiters="=")
    parser.optionxform = str
    parser.read(unit)
    return parser[section]


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.stem)
def test_a_unit_starts_a_worker(unit):
    """Each unit starts a worker with valid options, as a user of its own, within a memory limit."""
    read = service(unit)
    worker, words = unit.stem.removeprefix("dnstrail-"), read["ExecStart"].split()
    program, *options = words[: 1 + len(worker.split("-"))], *words[1 + len(worker.split("-")) :]
    assert program == [PREFIX, *worker.split("-")]
    if worker not in OF_FLEET:  # whose engines are tried below
        main_command.get_command(None, worker).make_context(worker, options, resilient_parsing=False)
        assert read["Environment"] == f"DNSTRAIL_RUN_DIR=/run/{read.get('RuntimeDirectory', 'dnstrail')}"
    assert (read["User"], read["Group"]) == (USERS[worker], "dnstrail")
    assert read["MemoryMax"]
    assert read["Type"] == "notify"
    assert int(read["WatchdogSec"]) > SILENCE


def test_the_users_of_the_units_exist():
    """Each user and group of a unit is made by systemd-sysusers, and two read the files of the history as its user."""
    made = dict(line.split()[1::-1] for line in SYSUSERS.read_text().splitlines() if line[0] != "#")
    assert sorted(service(unit)["User"] for unit in UNITS) == sorted(USERS.values())
    assert {name for name, kind in made.items() if kind == "u"} == set(USERS.values())
    assert len(set(USERS.values())) == len(UNITS) - 2


def test_the_signatures_are_reloaded_by_their_signal():
    """`systemctl reload` sends SIGHUP to the signature worker by the shell, since /bin/kill may be missing."""
    assert service(UNIT["signatures"])["ExecReload"] == "/bin/sh -c 'kill -HUP $MAINPID'"


def test_the_pages_show_the_log_with_the_findings():
    """The commands of the pages for containers and pods show the log of the worker that prints findings."""
    docs = COMPOSE.parent / "docs/use"
    assert re.findall(r"docker compose logs --follow (\w+)", (docs / "containers.md").read_text()) == ["findings"]
    assert re.findall(r"logs daemonset/dnstrail --container (\w+)", (docs / "kubernetes.md").read_text()) == [
        "findings"
    ]
    assert "--to=stdout" in workers_of_compose()["findings"]["command"]


def test_subscribers_find_the_probe():
    """The units of cache and signatures subscribe to the socket of the unit of the probe."""
    address = events_address(Path("/run", service(UNIT["probe"])["RuntimeDirectory"]))
    others = [service(UNIT[worker])["ExecStart"].split() for worker in ("cache", "signatures")]
    assert [words[words.index("--subscribe") + 1] for words in others] == [address] * 2


def test_findings_reach_their_unit():
    """The unit of the signatures starts the unit of the findings, and sends findings to its socket."""
    words = service(UNIT["signatures"])["ExecStart"].split()
    run_dir = Path("/run", service(UNIT["findings"])["RuntimeDirectory"])
    assert words[words.index("--findings") + 1] == findings_address(run_dir)
    assert service(UNIT["signatures"], "Unit")["Wants"] == UNIT["findings"].name
    state = service(UNIT["signatures"])["StateDirectory"]
    assert words[words.index("--state") + 1] == f"/var/lib/{state}"


def test_the_history_has_one_folder():
    """Unit and compose file keep the history in the default folder, which belongs to the user of the worker alone."""
    read, container = service(UNIT["history"]), workers_of_compose()["history"]
    assert read["ExecStart"].split()[-2:] == ["--folder", str(HISTORY)]
    assert (f"/var/lib/{read['StateDirectory']}", read["StateDirectoryMode"]) == (str(HISTORY), "0700")
    assert f"--folder={HISTORY}" in container["command"]
    assert f"history:{HISTORY}" in container["volumes"]
    socket = history_address(lookups_address(Path("/run", read["RuntimeDirectory"])))
    assert f"--history {socket}" in service(UNIT["cache"])["ExecStart"]
    assert f"--history={socket}" in workers_of_compose()["cache"]["command"]
    made = f"install -d -m 0700 -o dnstrail-history -g dnstrail {HISTORY}"
    assert made in (COMPOSE.parent / "deploy/Dockerfile").read_text()


def test_the_page_only_reads_the_history():
    """Unit and compose file let the page write its own folder alone, and lead findings and mutes past it."""
    read, container = service(UNIT["web"]), yaml.safe_load(COMPOSE.read_text())["services"]["web"]
    mutes = f"/var/lib/{read['StateDirectory']}/mutes"
    assert (read["ProtectSystem"], "ReadWritePaths" in read) == ("strict", False)
    assert f"history:{HISTORY}:ro" in container["volumes"]
    published = f"ipc:///run/{service(UNIT['findings'])['RuntimeDirectory']}/published.sock"
    for unit in (service(UNIT["findings"]), service(OUTPUTS)):
        assert f"--to pub:{published}" in unit["ExecStart"]
    assert f"--findings {published} --mutes {mutes} --folder {HISTORY}" in read["ExecStart"]
    assert f"--mutes {mutes}" in service(UNIT["signatures"])["ExecStart"]
    assert {f"--findings={published}", f"--mutes={mutes}", f"--folder={HISTORY}"} <= set(container["command"])
    assert f"--mutes={mutes}" in workers_of_compose()["signatures"]["command"]
    assert container["ports"] == ["127.0.0.1:8053:8053"]


def test_the_sender_gets_the_invitation_of_the_host(tmp_path):
    """Its unit hands over the file that `dnstrail fleet join` writes by default, and keeps its state."""
    read = service(UNIT["fleet-send"])
    assert read["LoadCredential"] == f"{JOINED.name}:{JOINED}"
    assert service(UNIT["fleet-send"], "Unit")["ConditionPathExists"] == str(JOINED)
    assert f"/var/lib/{read['StateDirectory']}" == str(SENDER)
    path = tmp_path / JOINED.name
    path.write_bytes(encode_invitation(EngineAddress("engine.example", 6380, "web1", "PEM", "secret")))
    path.chmod(0o600)
    _, _, worker, *options = read["ExecStart"].replace("%d", str(tmp_path)).split()
    made = fleet.get_command(None, worker).make_context(worker, options, resilient_parsing=False)
    assert made.params["engine"].user == "web1"


@pytest.mark.parametrize("worker", ["fleet-store", "fleet-signatures"])
def test_a_worker_at_the_engine_gets_its_address_and_its_password(tmp_path, worker):
    """Its unit reads the address from a file, hands over CA and password of root, and leads to the store."""
    read = service(UNIT[worker])
    assert service(UNIT[worker], "Unit")["ConditionPathExists"] == read["EnvironmentFile"]
    handed = [line.partition("=")[2] for line in UNIT[worker].read_text().splitlines() if "LoadCredential" in line]
    page = (COMPOSE.parent / "docs/use/fleet.md").read_text()
    for line in handed:
        name, _, path = line.partition(":")
        assert path in page
        (tmp_path / name).write_text("text\n")
        (tmp_path / name).chmod(0o600)
    engine = re.search(r"(ENGINE=\S+)' .*/etc/dnstrail/engine.env", page)[1]
    words = read["ExecStart"].replace("%d", str(tmp_path)).replace("${ENGINE}", engine.partition("=")[2]).split()
    made = fleet.get_command(None, words[2]).make_context(words[2], words[3:], resilient_parsing=False)
    assert (made.params["engine"].user, made.params["engine"].password) == ("store", "text")
    run_dir = str(RUN_DIR_OF_FLEET)
    assert read["Environment"] == f"DNSTRAIL_RUN_DIR={run_dir}"
    assert run_dir == f"/run/{service(UNIT['fleet-store'])['RuntimeDirectory']}"
    assert f"/var/lib/{service(UNIT['fleet-store'])['StateDirectory']}" == str(FLEET)
    sink = findings_address(Path("/run", service(UNIT["findings"])["RuntimeDirectory"]))
    assert made.params.get("findings", sink) == sink


def test_the_sender_of_the_compose_file_reads_the_history_and_one_secret():
    """It has the user of the history, whose folder it cannot write, and folders of the image for its state."""
    compose = yaml.safe_load(COMPOSE.read_text())
    sender, history = compose["services"]["fleet-send"], compose["services"]["history"]
    assert (sender["user"], sender["secrets"]) == (history["user"], ["fleet"])
    assert f"history:{HISTORY}:ro" in sender["volumes"]
    assert f"sender:{SENDER}" in sender["volumes"]
    made = f"install -d -m 0700 -o dnstrail-history -g dnstrail {SENDER}"
    assert made in (COMPOSE.parent / "deploy/Dockerfile").read_text()
    page = (COMPOSE.parent / "docs/use/fleet.md").read_text()
    assert f"install -D -o {sender['user'].partition(':')[0]} -m 400 web1.json" in page


def test_a_drop_in_for_outputs_starts_its_worker():
    """The drop-in for a webhook has valid outputs, a network, and a folder of state for its spool."""
    read = service(OUTPUTS)
    _, worker, *options = read["ExecStart"].split()
    assert (OUTPUTS.stem, worker) == ("dnstrail-findings", "findings")
    made = main_command.get_command(None, worker).make_context(worker, options, resilient_parsing=False)
    places = [target.replace(",token=/etc/dnstrail/siem.token", "") for target in made.params["targets"]]
    spools = [target.options["spool"] for target in map(parse_target, places) if "spool" in target.options]
    assert spools == [f"/var/lib/{read['StateDirectory']}/spool"]
    assert {"AF_INET", "AF_INET6"} <= set(read["RestrictAddressFamilies"].split())


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.stem)
def test_the_exposure_of_a_unit_is_small(unit):
    """Systemd rates the exposure of each unit at most 2.5 of 10."""
    if not shutil.which("systemd-analyze"):
        skip("systemd-analyze is not installed")
    command = ["systemd-analyze", "security", "--no-pager", "--offline=true", f"--threshold={EXPOSURE}", str(unit)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)
    sys.stdout.write(done.stdout.splitlines()[-1] + "\n")
    assert done.returncode == 0, done.stdout + done.stderr


def test_each_open_line_of_the_probe_has_its_reason():
    """A setting that the other units have, and the probe lacks or weakens, is named in a comment of its unit."""
    read = {unit.stem: dict(service(unit)) for unit in UNITS}
    probe, cache = read["dnstrail-probe"], read["dnstrail-cache"]
    comments = "".join(re.findall(r"^#.*\n", UNIT["probe"].read_text(), re.MULTILINE))
    assert [name for name in cache if name not in probe and name not in comments] == []


def test_the_containers_have_users_and_few_rights():
    """The compose file gives all but the probe users of the image and no capability, and limits every container."""
    services = workers_of_compose()
    image = (COMPOSE.parent / "deploy/Dockerfile").read_text()
    made = {user: number for number, user in USER_OF_IMAGE.findall(image)}
    ids = {name: made[USERS[name]] for name in ("cache", "signatures", "findings", "history")}
    assert {name: services[name]["user"].split(":")[0] for name in services} == {"probe": "0", **ids}
    assert {name for name in services if "cap_add" in services[name]} == {"probe"}
    assert re.search(r"^USER dnstrail", image, re.MULTILINE)
    for container in yaml.safe_load(COMPOSE.read_text())["services"].values():
        assert container["cap_drop"] == ["ALL"]
        assert container["security_opt"] == ["no-new-privileges:true"]
        assert container["read_only"]
        assert container["mem_limit"]


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.stem)
def test_a_unit_restarts_its_worker_each_time(unit):
    """A worker that exceeds its memory limit comes back, however often that happens."""
    read = service(unit)
    assert (read["Restart"], int(read["RestartSec"])) == ("on-failure", 1)
    assert service(unit, "Unit")["StartLimitIntervalSec"] == "0"
    assert "OOMPolicy" not in read  # by default the end of the process ends the unit, with a failure


def test_a_container_restarts_within_its_memory_limit():
    """The compose file limits memory and swap of each container together, and restarts what ends."""
    for container in yaml.safe_load(COMPOSE.read_text())["services"].values():
        assert (container["mem_limit"], container["memswap_limit"]) == ("1g", "1g")
        assert container["restart"] == "unless-stopped"


def test_the_log_of_a_container_is_bounded():
    """Docker rotates the log of each container."""
    for container in yaml.safe_load(COMPOSE.read_text())["services"].values():
        assert container["logging"]["driver"] == "json-file"
        assert container["logging"]["options"] == {"max-size": "10m", "max-file": "3"}


def test_the_containers_find_the_sockets():
    """The workers of the image have one run-dir, which a volume of the compose file holds."""
    image = (COMPOSE.parent / "deploy/Dockerfile").read_text()
    run_dir = re.search(r"^ENV .*DNSTRAIL_RUN_DIR=(\S+)", image, re.MULTILINE)[1]
    for name in ("cache", "signatures"):
        assert f"run:{run_dir}" in workers_of_compose()[name]["volumes"]


def test_the_signatures_have_a_config():
    """Unit, package and compose file load further signatures from one folder, and read one file of environment."""
    unit, container = service(UNIT["signatures"]), workers_of_compose()["signatures"]
    assert "--signatures /etc/dnstrail/signatures" in unit["ExecStart"]
    assert unit["EnvironmentFile"] == "-/etc/dnstrail/signatures.env"
    assert "--signatures=/etc/dnstrail/signatures" in container["command"]
    assert [volume for volume in container["volumes"] if volume.endswith("./deploy/etc}:/etc/dnstrail:ro")]
    assert container["env_file"] == ["${DNSTRAIL_CONFIG:-./deploy/etc}/signatures.env"]
    assert (COMPOSE.parent / "deploy/etc/signatures").is_dir()


def test_all_workers_with_settings_read_one_folder():
    """The settings file is in the folder of the signatures, which each container mounts: no mount can lie below it."""
    services = yaml.safe_load(COMPOSE.read_text())["services"]
    config = "${DNSTRAIL_CONFIG:-./deploy/etc}:/etc/dnstrail:ro"
    mounting = {name for name, one in services.items() if config in one["volumes"]}
    assert mounting == {"probe", "cache", "signatures", "history", "web"} == {*services} & {*TABLES}
    for name in mounting:
        assert [one for one in services[name]["volumes"] if "/etc/dnstrail" in one] == [config]
    assert ":/etc/dnstrail/" not in (COMPOSE.parent / "docs/use/containers.md").read_text()


def test_the_override_for_outputs_keeps_the_command():
    """The file that the page for outputs shows has all options of the compose file, and a secret for the user."""
    page = (COMPOSE.parent / "docs/use/outputs.md").read_text()
    shown = yaml.safe_load(re.search(r"```text\n(services:\n.*?)```", page, re.DOTALL)[1])["services"]["findings"]
    base = workers_of_compose()["findings"]
    assert {*base["command"]} < {*shown["command"]}
    assert {*base["networks"]} < {*shown["networks"]}
    worker, *options = [word.replace(",token=/run/secrets/siem", "") for word in shown["command"]]
    main_command.get_command(None, worker).make_context(worker, options, resilient_parsing=False)
    assert f"install -o {base['user'].partition(':')[0]} -m 400" in page


def test_the_settings_of_fleet_signatures_have_a_file_of_their_own(tmp_path):
    """Those of the host are no settings of theirs: the unit names none, and the default is another path."""
    assert "--config" not in service(UNIT["fleet-signatures"])["ExecStart"]
    assert (FLEET_SIGNATURES.parent, FLEET_SIGNATURES != DEFAULT) == (DEFAULT.parent, True)
    assert f"`{FLEET_SIGNATURES}`" in (COMPOSE.parent / "docs/use/services.md").read_text()
    assert f"`{FLEET_SIGNATURES}`" in (COMPOSE.parent / "docs/use/fleet.md").read_text()


def test_the_network_of_the_containers_leads_nowhere():
    """The workers are in one internal network, and only loopback ports lead to page, Prometheus and Grafana."""
    compose = yaml.safe_load(COMPOSE.read_text())
    assert compose["networks"] == {"metrics": {"internal": True}, "page": None, "fleet": None}
    assert [name for name, one in compose["services"].items() if "fleet" in one.get("networks", ())] == ["fleet-send"]
    for worker in workers_of_compose().values():
        assert worker["networks"] == ["metrics"]
        assert "ports" not in worker
    published = [port for service in compose["services"].values() for port in service.get("ports", ())]
    assert [port.split(":")[0] for port in published] == ["127.0.0.1"] * 3


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.stem)
def test_the_metrics_of_a_unit_are_local(unit, tmp_path):
    """With its drop-in for metrics a unit serves on a loopback port of its own, and is exposed little more."""
    drop_in = METRICS / f"{unit.stem}.conf"
    options = service(drop_in)
    ports = {service(METRICS / f"{other.stem}.conf")["Environment"] for other in UNITS}
    assert len(ports) == len(UNITS)
    assert re.fullmatch(r"DNSTRAIL_METRICS=\d+", options["Environment"])
    assert options["IPAddressAllow"] == "localhost"
    if not shutil.which("systemd-analyze"):
        skip("systemd-analyze is not installed")
    together = tmp_path / unit.name
    together.write_text(f"{unit.read_text()}\n{drop_in.read_text()}")
    command = [
        "systemd-analyze",
        "security",
        "--no-pager",
        "--offline=true",
        f"--threshold={EXPOSURE + 3}",
        str(together),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_only_the_probe_has_capabilities():
    """The probe has the capabilities that its sources need, and the other workers have none."""
    held = {unit.stem: service(unit)["CapabilityBoundingSet"].split() for unit in UNITS}
    probe = held.pop("dnstrail-probe")
    assert {"CAP_BPF", "CAP_PERFMON", "CAP_NET_ADMIN"} <= set(probe)
    assert probe == service(UNIT["probe"])["AmbientCapabilities"].split()
    assert set(map(tuple, held.values())) == {()}


def test_listeners_start_before_the_probe():
    """A unit is ready once its main loop runs, so the probe starts after the workers that receive its events."""
    probe = next(unit for unit in UNITS if unit.stem == "dnstrail-probe").read_text()
    after = re.search(r"^After=(.*)$", probe, re.MULTILINE)[1].split()
    assert sorted(after) == [unit.name for unit in UNITS if unit not in (UNIT["probe"], *map(UNIT.get, OF_FLEET))]


@pytest.mark.parametrize("drop_in", sorted((UNITS[0].parent / "hosts").glob("*.conf")), ids=lambda path: path.stem)
def test_a_drop_in_for_other_hosts_starts_its_worker(drop_in):
    """Each drop-in replaces the command of its unit by one with valid options, and names a folder of keys."""
    read = service(drop_in)
    program, worker, *options = read["ExecStart"].split()
    assert (program, drop_in.stem) == (PREFIX, f"dnstrail-{worker}")
    main_command.get_command(None, worker).make_context(worker, options, resilient_parsing=False)
    assert read["Environment"] == f"DNSTRAIL_KEYS=/etc/dnstrail/{worker}-keys"
    assert {"AF_INET", "AF_INET6"} <= set(read["RestrictAddressFamilies"].split())


def test_the_compose_file_for_several_hosts_adds_to_the_other_one():
    """Each worker has its folder of keys, a network to other hosts and all options of the compose file; ports match."""
    page = (COMPOSE.parent / "docs/use/hosts.md").read_text()
    for worker, added in yaml.safe_load((COMPOSE.parent / "deploy/hosts.yml").read_text())["services"].items():
        base = workers_of_compose()[worker]
        main_command.get_command(None, worker).make_context(worker, added["command"][1:])
        options = {word.partition("=")[0] for word in added["command"]}
        assert {word.partition("=")[0] for word in base["command"] if word.startswith("--")} <= options
        assert added["volumes"] == [f"${{DNSTRAIL_KEYS:-/etc/dnstrail}}/{worker}-keys:/keys"]
        assert added["environment"] == {"DNSTRAIL_KEYS": "/keys"}
        assert set(base["networks"]) < set(added["networks"])
        user = base["user"].partition(":")[0]
        assert f"install -d -o {user} -m 755 /etc/dnstrail/{worker}-keys" in page
        ports = {word: int(word.rpartition(":")[2]) for word in added["command"] if "tcp://*" in word}
        bound = {*ports.values()}
        replays = {port + 1 for word, port in ports.items() if not word.startswith("--serve=")}
        assert {int(port.partition(":")[0]) for port in added.get("ports", ())} == bound | replays


def test_a_silent_probe_is_unhealthy():
    """The compose file checks the health of the pipeline by a command that exists, where the cache serves."""
    services = COMPOSE.read_text().partition("services:")[2]
    cache = services.partition("  cache:")[2].partition("  signatures:")[0]
    words = re.search(r"test: \[CMD, dnstrail, (\w+)\]", cache)
    main_command.get_command(None, words[1]).make_context(words[1], [], resilient_parsing=False)


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="systemd-analyze is not installed")
def test_systemd_takes_the_units(tmp_path):
    """Systemd verifies the units without a complaint."""
    for unit in UNITS:
        (tmp_path / unit.name).write_text(unit.read_text().replace(PREFIX, "/bin/true"))
    paths = [str(tmp_path / unit.name) for unit in UNITS]
    run = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", *paths], capture_output=True, text=True, timeout=PATIENCE, check=False
    )
    assert [line for line in run.stderr.splitlines() if "dnstrail-" in line] == []
    assert "Unknown" not in run.stderr
