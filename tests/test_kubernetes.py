"""The manifests are valid, and give each worker the rights that the compose file gives it."""

from __future__ import annotations

import copy
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from dnstrail import __version__
from dnstrail_cli.__main__ import main_command
from dnstrail_fleet.__main__ import command as fleet
from dnstrail_probe.host.container_name import OWNER_KEYS
from dnstrail_probe.host.pod_owners import _DEFAULT_ACCOUNT, _PATHS
from live.processes import PATIENCE

ROOT = Path(__file__).parents[1]
OBJECTS = [
    one
    for name in ("dnstrail", "owners")
    for one in yaml.safe_load_all((ROOT / f"deploy/kubernetes/{name}.yaml").read_text())
]
PODS = [one["spec"]["template"]["spec"] for one in OBJECTS if one["kind"] == "DaemonSet"]
FLEET = yaml.safe_load((ROOT / "deploy/kubernetes/fleet/dnstrail.yaml").read_text())["spec"]["template"]["spec"]
INIT = [init for pod in (*PODS, FLEET) for init in pod["initContainers"]]
COMPOSE = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
OLDEST, NEWEST = "1.29", "1.35"  # releases of Kubernetes


def containers() -> dict[str, dict[str, Any]]:
    """Return the containers of all pods by name, without those that end before the others start."""
    return {container["name"]: container for pod in PODS for container in pod["containers"]}


@pytest.mark.parametrize("release", [OLDEST, NEWEST])
@pytest.mark.parametrize("number", range(len(OBJECTS)))
def test_an_object_is_valid(number: int, release: str) -> None:
    """Each object has no field that its schema lacks, and all that it needs."""
    kubernetes_validate.validate(OBJECTS[number], release, strict=True)


def test_a_wrong_field_is_refused() -> None:
    """The schema refuses a field that Kubernetes does not know."""
    wrong = {**OBJECTS[0], "labels": {}}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(wrong, NEWEST, strict=True)


@pytest.mark.parametrize("name", ["probe", "cache", "signatures", "findings", "history", "web"])
def test_a_container_has_the_rights_of_compose(name: str) -> None:
    """A container has the user, capabilities and memory limit of the compose file, and a valid command."""
    found, compose = containers()[name], COMPOSE[name]
    context = found["securityContext"]
    assert f"{context['runAsUser']}:{context['runAsGroup']}" == compose["user"]
    assert context["capabilities"] == {
        "drop": ["ALL"],
        **({"add": compose["cap_add"]} if "cap_add" in compose else {}),
    }
    assert context["readOnlyRootFilesystem"]
    assert not context["allowPrivilegeEscalation"]
    assert found["image"] == f"dnstrail:{__version__}"
    assert found["resources"]["limits"]["memory"] == "1Gi"
    worker, *options = found["args"]
    assert worker == name
    main_command.get_command(None, worker).make_context(worker, options, resilient_parsing=False)


@pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("setpriv"), reason="needs root and setpriv")
@pytest.mark.parametrize("init", INIT, ids=lambda init: init["command"][-1])
def test_the_capabilities_of_an_init_container_suffice(init: dict[str, Any], tmp_path: Path) -> None:
    """An init container gives the folders to the users of the image, also when they belong to them already."""
    held = ",".join(f"+{name.lower()}" for name in init["securityContext"]["capabilities"]["add"])
    folders = [tmp_path / Path(word).name for word in init["command"] if word.startswith("/")]
    words = [str(tmp_path / Path(word).name) if word.startswith("/") else word for word in init["command"]]
    for _ in range(2):
        subprocess.run(
            ["setpriv", f"--bounding-set=-all,{held}", "--inh-caps=-all", *words], check=True, timeout=PATIENCE
        )
    assert {(folder.stat().st_gid, folder.stat().st_mode & 0o777) for folder in folders} == {(990, 0o750)}
    assert {str(mount["mountPath"]) for mount in init["volumeMounts"]} == {
        word for word in init["command"] if "/" in word
    }


def test_the_page_reads_the_history_and_writes_its_own_folder_alone() -> None:
    """The page has no write access but to its folder, where the signatures read its mutes; it is served to its pod."""
    page, signatures = containers()["web"], containers()["signatures"]
    writable = {one["mountPath"] for one in page["volumeMounts"] if not one.get("readOnly")}
    assert writable == {"/run/dnstrail", "/run/dnstrail-findings", "/var/lib/dnstrail-web", "/tmp"}  # sockets, and /tmp
    [mutes] = [one for one in page["args"] if one.startswith("--mutes=")]
    assert mutes in signatures["args"]
    assert {"name": "page", "mountPath": "/var/lib/dnstrail-web", "readOnly": True} in signatures["volumeMounts"]
    assert "--listen=127.0.0.1:8053" in page["args"]
    assert 8053 not in [one["containerPort"] for one in page["ports"]]
    published = next(one for one in containers()["findings"]["args"] if one.startswith("--to=pub:"))
    assert f"--findings={published.removeprefix('--to=pub:')}" in page["args"]


def check_sender(container: dict[str, Any]) -> None:
    """Check that the sender has the rights and folders of that of compose, and the invitation of its node alone."""
    compose, context = COMPOSE[container["name"]], container["securityContext"]
    assert f"{context['runAsUser']}:{context['runAsGroup']}" == compose["user"]
    assert (context["capabilities"], context["readOnlyRootFilesystem"]) == ({"drop": ["ALL"]}, True)
    assert set(compose["command"]) <= set(container["args"])
    _, send, *options = container["args"]
    made = fleet.get_command(None, send).make_context(send, options, resilient_parsing=True)
    mounts = {one["mountPath"]: one for one in container["volumeMounts"]}
    assert {volume.split(":")[1] for volume in compose["volumes"]} <= mounts.keys()
    assert mounts[str(made.params["history"])]["readOnly"]
    assert mounts["/run/secrets/fleet"]["subPathExpr"] == "$(NODE).json"


PATCHES = sorted((ROOT / "deploy/kubernetes").glob("*/*.yaml"))


@pytest.mark.parametrize("patch", PATCHES, ids=lambda path: f"{path.parent.stem}-{path.stem}")
def test_a_patch_is_valid(patch: Path) -> None:
    """A patched DaemonSet is valid; its workers have valid commands, and lose no option."""
    [base] = [one for one in OBJECTS if one["kind"] == "DaemonSet" and one["metadata"]["name"] == patch.stem]
    patched, change = copy.deepcopy(base), yaml.safe_load(patch.read_text())["spec"]["template"]["spec"]
    pod = patched["spec"]["template"]["spec"]
    of_base = {one["name"]: one for one in pod["containers"]}
    for changed in change.pop("containers"):
        if changed["name"] not in of_base:
            check_sender(changed)
            pod["containers"].append(changed)
            continue
        container = of_base[changed["name"]]
        lost = {option.partition("=")[0] for option in container["args"] if option.startswith("--")}
        lost -= {option.partition("=")[0] for option in changed["args"]}
        assert lost == set()
        main_command.get_command(None, changed["name"]).make_context(changed["name"], changed["args"][1:])
        for name in ("ports", "volumeMounts"):  # are merged
            changed[name] = [*container.get(name, []), *changed.get(name, [])]
        container.update(changed)
    pod["volumes"] += change.pop("volumes", [])
    pod["initContainers"] += change.pop("initContainers", [])
    pod["serviceAccountName"] = change.pop("serviceAccountName", "default")
    assert change == {}
    for release in (OLDEST, NEWEST):
        kubernetes_validate.validate(patched, release, strict=True)
    mounted = {mount["name"] for one in pod["containers"] for mount in one["volumeMounts"]}
    assert mounted == {volume["name"] for volume in pod["volumes"]}


def test_the_probe_may_get_what_it_requests_of_the_api_server_alone() -> None:
    """The role permits to get the kinds that the probe requests; the account of the patch has it, and its files."""
    role, binding, account = (
        next(one for one in OBJECTS if one["kind"] == kind)
        for kind in ("ClusterRole", "ClusterRoleBinding", "ServiceAccount")
    )
    parts = [path.split("/") for path in _PATHS.values()]
    requested = {("" if path[1] == "api" else path[2], path[-2]) for path in parts}
    permitted = [{(*rule["apiGroups"], *rule["resources"]): rule["verbs"]} for rule in role["rules"]]
    assert permitted == [{kind: ["get"]} for kind in sorted(requested)]
    assert binding["roleRef"]["name"] == role["metadata"]["name"]
    assert binding["subjects"] == [{"kind": "ServiceAccount", **account["metadata"]}]
    patch = yaml.safe_load((ROOT / "deploy/kubernetes/owners/probe.yaml").read_text())["spec"]["template"]["spec"]
    [probe], [volume] = patch["containers"], patch["volumes"]
    assert patch["serviceAccountName"] == account["metadata"]["name"]
    assert probe["volumeMounts"][0]["mountPath"] == _DEFAULT_ACCOUNT
    token, authority = volume["projected"]["sources"]
    paths = [token["serviceAccountToken"]["path"], *(one["path"] for one in authority["configMap"]["items"])]
    assert paths == ["token", "ca.crt"]
    keys = {one.removeprefix("--label=") for one in probe["args"] if one.startswith("--label=")}
    assert keys == OWNER_KEYS


def test_the_patches_of_a_worker_lose_no_option_together() -> None:
    """What several patches change of a container is in one of them as a whole: a patch replaces all options."""
    changed: dict[str, list[set[str]]] = {}
    for patch in PATCHES:
        for container in yaml.safe_load(patch.read_text())["spec"]["template"]["spec"]["containers"]:
            changed.setdefault(container["name"], []).append({*container.get("args", ())})
    assert len(changed["probe"]) > 2
    for options in changed.values():
        assert set.union(*options) in options


@pytest.mark.parametrize("patch", [one for one in PATCHES if one.parent.stem == "hosts"], ids=lambda path: path.stem)
def test_a_worker_that_speaks_to_hosts_has_keys(patch: Path) -> None:
    """Each container of a patch for several hosts has a folder of keys."""
    for changed in yaml.safe_load(patch.read_text())["spec"]["template"]["spec"]["containers"]:
        container = containers()[changed["name"]]
        assert {"name": "DNSTRAIL_KEYS", "value": "/keys"} in container["env"]
        assert "/keys" in [mount["mountPath"] for mount in container["volumeMounts"]]


def test_every_volume_is_mounted_and_every_mount_has_one() -> None:
    """The pods name their volumes alike in both lists, and only the probe sees the processes of the node."""
    for pod in PODS:
        mounted = {mount["name"] for container in pod["containers"] for mount in container["volumeMounts"]}
        assert mounted == {volume["name"] for volume in pod["volumes"]}
        assert pod.get("hostPID", False) == ("probe" in {container["name"] for container in pod["containers"]})
        assert not pod["automountServiceAccountToken"]
