"""Podman of a user without root, below a cgroup as the systemd of the user has it."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from dnstrail.kernel.cgroups import find_cgroup2
from live.docker_daemon import UPSTREAM, network_namespace
from live.ebpf_source import cgroup
from live.namespaces import dnsmasq
from live.podman import IMAGE, image_of_resolve
from live.processes import run_dir, wait_until
from live.run_commands import WITH_CGROUPS

USER_TOOLS = ("podman", "crun", "gcc", "nsenter", "newuidmap", "setpriv", "useradd")
_SLICE = "dnstrailuser.slice"
_ENTER = 'echo 0 >"/sys/fs/cgroup/$0/cgroup.procs" && exec "$@"'
_RUN = ("run", "--rm", "--pids-limit", "0", "--network", "host", "--cgroups", "enabled")


@dataclass(frozen=True)
class PodmanOfUser:
    """Podman that a user runs; `command` is the beginning of its command line."""

    user: str
    parent: str  # the cgroup of the containers
    command: tuple[str, ...]

    def __call__(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run a command of Podman."""
        done = subprocess.run(
            [*self.command, *arguments], capture_output=True, text=True, timeout=120, check=False, cwd="/"
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done

    def resolve(self, container: str, name: str, *options: str) -> None:
        """Send one query in a new container, which ends when it has the response."""
        options = (*options, "--cgroup-parent", self.parent, "--name", container)
        self(*_RUN, *options, IMAGE, "/resolve", UPSTREAM, "53", "udp", name)


@contextmanager
def podman_of_user() -> Iterator[PodmanOfUser]:
    """Make a user with a store that has an image."""
    with ExitStack() as stack:
        namespace = stack.enter_context(network_namespace())
        stack.enter_context(dnsmasq(namespace, UPSTREAM, 53, "/test/192.0.2.1"))
        folder = stack.enter_context(run_dir())
        account = stack.enter_context(_user(f"dnstrail-t{os.getpid()}"))
        manager = f"{_SLICE}/user@{account.pw_uid}.service"
        stack.enter_context(cgroup(_SLICE))
        for path in (manager, f"{manager}/init.scope", f"{manager}/containers"):
            made = stack.enter_context(cgroup(path))
            for given in (made, made / "cgroup.procs"):
                os.chown(given, account.pw_uid, account.pw_gid)
        runtime = folder / "runtime"
        runtime.mkdir(mode=0o700)
        os.chown(runtime, account.pw_uid, account.pw_gid)
        folder.chmod(0o755)
        command = ["nsenter", f"--net=/run/netns/{namespace}", "unshare", "--mount", *WITH_CGROUPS]
        command += ["sh", "-c", _ENTER, f"{manager}/init.scope"]
        command += ["setpriv", f"--reuid={account.pw_uid}", f"--regid={account.pw_gid}", "--init-groups"]
        command += ["env", "-i", f"HOME={account.pw_dir}", f"XDG_RUNTIME_DIR={runtime}", f"PATH={os.environ['PATH']}"]
        command += ["podman", "--cgroup-manager", "cgroupfs", "--storage-driver", "vfs"]
        stack.callback(_end_processes, Path(str(find_cgroup2())) / manager)
        found = PodmanOfUser(account.pw_name, f"/{manager}/containers", tuple(command))
        image = shutil.copy(image_of_resolve(folder), runtime / "image.tar")
        Path(image).chmod(0o644)
        found("import", str(image), IMAGE)
        yield found


@contextmanager
def _user(name: str) -> Iterator[pwd.struct_passwd]:
    """Make a user with a home and with further ids, and remove all of it."""
    subprocess.run(["useradd", "--create-home", name], check=True, capture_output=True)
    try:
        account = pwd.getpwnam(name)
        yield account
    finally:
        subprocess.run(["userdel", "--remove", name], check=False, capture_output=True)


def _end_processes(manager: Path) -> None:
    """End the process by which Podman holds the user namespace, and remove the cgroups that Podman made."""

    def is_as_made() -> bool:
        for folder in (Path(path) for path, _, _ in os.walk(manager, topdown=False)):
            for pid in (folder / "cgroup.procs").read_text().split():
                with suppress(ProcessLookupError):
                    os.kill(int(pid), signal.SIGKILL)
            if folder.parent not in (manager, manager.parent):
                with suppress(OSError):  # its processes are ending
                    folder.rmdir()
        return not any((manager / "containers").glob("*/"))

    wait_until(is_as_made, "the end of the processes")
