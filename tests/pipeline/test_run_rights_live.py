"""The rights of a command under `dnstrail run --enforce`: real sudo and su, a file with capabilities, root."""

from __future__ import annotations

import json
import pwd
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from live.namespaces import SENDER, SERVER, Hosts, hosts, live_or_skip
from live.pipelines import pipeline
from live.processes import wait_until
from live.run_commands import RUN, WEB_SERVER, WITH_CGROUPS, asking_folder, on_client
from live.server_process import serving

Run = Callable[..., tuple[subprocess.CompletedProcess[str], dict]]
CALLER = pwd.getpwnam("nobody")  # sudo needs an entry
AS_CALLER = {"SUDO_UID": str(CALLER.pw_uid), "SUDO_GID": str(CALLER.pw_gid), "SUDO_USER": CALLER.pw_name}
ENFORCE = ("--allow", "allowed", "--enforce", "--report", "r.json", "--quiet")
# Lets the caller be root without a password, in the mount namespace of the test alone.
MOUNTS = 'mount --bind sudoers /etc/sudoers && mount --bind pam /etc/pam.d/su && exec "$@"'
WITH_SUDO = ("sh", "-c", MOUNTS, "sh")
PAM = "".join(f"{kind} sufficient pam_permit.so\n" for kind in ("auth", "account", "session"))
BECOMES = {"/usr/bin/sudo": "sudo bash -c", "/usr/bin/su": "su root -c"}
LEAVES = f"echo $$ > /sys/fs/cgroup/cgroup.procs; echo left > /dev/tcp/{SENDER}/80"
WEAKENED = "{} ran without the rights that its file gives (set-id or capabilities): --enforce takes them away, and "
WEAKENED += "--allow-new-privileges keeps them."
STRENGTHENED = "{} ran with the rights that its file gives (set-id or capabilities): a command that becomes root by it "
STRENGTHENED += "can leave its cgroup, and nothing is refused to it there."
IS_ROOT = "The command ran as root: it can leave its cgroup, and nothing is refused to it there."


@pytest.fixture(scope="module")
def network() -> Iterator[Hosts]:
    """Two hosts; every name below google.com has the address of the server."""
    live_or_skip("bash", "sudo", "su", "setcap")
    with hosts() as both:
        yield both


@pytest.fixture
def folder(network: Hosts) -> Iterator[Path]:
    """Yield a folder with a list that the command may reach, and rights in sudoers."""
    with asking_folder() as made, serving(network, made / "seen", *WEB_SERVER):
        (made / "allowed").write_text("one.google.com:80\n")
        (made / "sudoers").write_text(f"{CALLER.pw_name} ALL=(ALL) NOPASSWD: ALL\n")
        (made / "sudoers").chmod(0o440)
        (made / "pam").write_text(PAM)
        yield made


@pytest.fixture(scope="module")
def watched(network: Hosts) -> Iterator[Path]:
    """Yield the folder of a pipeline that watches all runs."""
    with pipeline("--output", "json") as running:
        yield running.folder


@pytest.fixture
def run(network: Hosts, folder: Path, watched: Path) -> Run:
    """Return a function that runs a script in bash under --enforce, and returns its end and its report."""

    def ran(script: str, *options: str, **env: str) -> tuple[subprocess.CompletedProcess[str], dict]:
        shutil.chown(folder, CALLER.pw_uid if env else 0)  # root takes no list that another user could replace
        command = (*WITH_CGROUPS, *WITH_SUDO, *RUN, *ENFORCE, *options, "--", "bash", "-c", script)
        done = on_client(network, folder, *command, run_dir=watched, **env)
        return done, json.loads((folder / "r.json").read_text())

    return ran


def reached(folder: Path) -> list[str]:
    """Return what reached the server."""
    return re.findall(r"^[0-9.]+ (.+)$", (folder / "seen").read_text(), re.MULTILINE)


@pytest.mark.parametrize("program", BECOMES)
def test_sudo_leads_nowhere(run, folder, program):
    """A caller with sudo or su and no password stays in the cgroup; stderr and report name it, and the option."""
    done, report = run(f"{BECOMES[program]} '{LEAVES}'; echo >&2 code $?", **AS_CALLER)
    assert reached(folder) == [], done.stderr
    told = WEAKENED.format(program)
    assert report["rights"] == [told]
    assert f"dnstrail: {told}\n" in done.stderr
    assert "code 1" in done.stderr
    assert report["enforcement"] == []


@pytest.mark.parametrize("program", BECOMES)
def test_sudo_with_the_option(run, folder, program):
    """With --allow-new-privileges sudo and su work; the report names it, and what left the cgroup, which is judged."""
    options = ("--allow-new-privileges",)
    done, report = run(f"{BECOMES[program]} '{LEAVES}'", *options, **AS_CALLER)
    wait_until(lambda: reached(folder) == ["left"], "the connection")
    assert done.returncode == 10
    assert report["not_allowed"] == [f"reached {SENDER}:80/tcp"]
    assert report["rights"] == [STRENGTHENED.format(program)]
    assert "left its cgroup" in " ".join(report["enforcement"])


def test_the_first_such_program_is_named(run, folder):
    """A file with capabilities counts like a set-id one; the first is named, and nothing that gives no rights is."""
    for name in ("plain", "own", "capable"):
        shutil.copy("/bin/true", folder / name)
    shutil.chown(folder / "own", CALLER.pw_uid)
    (folder / "own").chmod(0o4755)
    subprocess.run(["setcap", "cap_net_raw+ep", folder / "capable"], check=True)
    done, report = run("./plain; ./own; ./capable; sudo true", **AS_CALLER)
    assert report["rights"] == [WEAKENED.format(f"{folder}/capable")], done.stderr
    assert done.stderr.count("--allow-new-privileges") == 1


@pytest.mark.parametrize("options", [(), ("--allow-new-privileges",)])
def test_root_can_leave(run, folder, options):
    """The report about a command of root states that root can leave; what left is reported, and judged."""
    done, report = run(f"sudo true; {LEAVES}", *options)
    wait_until(lambda: reached(folder) == ["left"], "the connection")
    assert (done.returncode, report["rights"]) == (10, [IS_ROOT])
    assert report["not_allowed"] == [f"reached {SENDER}:80/tcp"]
    assert "left its cgroup" in " ".join(report["enforcement"])


@pytest.mark.parametrize("options", [(), ("--allow-new-privileges",)])
@pytest.mark.parametrize("caller", [AS_CALLER, {}])
def test_what_is_allowed_is_reached(run, folder, options, caller):
    """Without set-id programs both modes are the same: an allowed name is reached, and another address is not."""
    script = f"echo ok > /dev/tcp/one.google.com/80; (echo no > /dev/tcp/{SERVER}/81); (echo no > /dev/tcp/{SENDER}/80)"
    done, report = run(script, *options, **caller)
    wait_until(lambda: reached(folder) == ["ok"], "the connection")
    assert sorted((one["address"], one["port"]) for one in report["refused"]) == [(SERVER, 81), (SENDER, 80)]
    assert (done.returncode, report["enforcement"]) == (10, [])
