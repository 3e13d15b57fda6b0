"""A host with a real systemd in namespaces of its own: the files of this host, with changes that nobody else sees."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from live.processes import PATIENCE, wait_until

ROOT = Path(__file__).parents[3]
_CGROUPS = (Path("/sys/fs/cgroup/unified"), Path("/sys/fs/cgroup"))
_UNSHARE = ("unshare", "--mount", "--uts", "--ipc", "--net", "--pid", "--cgroup", "--fork", "--kill-child")
_BOOT = """
set -e
mount --make-rprivate /
mount -t tmpfs tmpfs "$1"
cd "$1"
mkdir upper work root
mount -t overlay -o lowerdir=/,upperdir=upper,workdir=work overlay root
cd root
for place in "$BASE:opt/python" "$SITE:opt/site" "$SOURCE:opt/source"; do
    mkdir -p "${place#*:}"
    mount --bind "${place%%:*}" "${place#*:}"
done
mkdir -p opt/dnstrail/bin
printf '%s\\n' '#!/bin/sh' "$SET exec $PYTHON -m dnstrail_cli \\"\\$@\\"" >opt/dnstrail/bin/dnstrail
chmod 755 opt/dnstrail opt/dnstrail/bin opt/dnstrail/bin/dnstrail
rm -rf etc/systemd/system var/lib/dnstrail*
mkdir -p etc/systemd/system etc/dnstrail/signatures usr/lib/sysusers.d
cp "$SOURCE"/deploy/systemd/*.service etc/systemd/system/
cp "$SOURCE"/deploy/systemd/dnstrail.sysusers usr/lib/sysusers.d/dnstrail.conf
mount -t proc proc proc
mount --bind proc/sys proc/sys
mount -o remount,bind,ro proc/sys
mount -t sysfs -o ro sysfs sys
mount -t cgroup2 cgroup2 sys/fs/cgroup
mount -t tmpfs -o mode=755 tmpfs run
mount -t tmpfs -o mode=1777 tmpfs tmp
mount -t tmpfs -o mode=755 tmpfs dev
mkdir dev/pts dev/shm
mount -t devpts -o newinstance,ptmxmode=666 devpts dev/pts
for device in "null 1 3" "zero 1 5" "full 1 7" "random 1 8" "urandom 1 9" "tty 5 0"; do
    mknod -m 666 "dev/${device%% *}" c ${device#* }
done
ln -s pts/ptmx dev/ptmx
touch etc/.updated var/.updated
ip link set lo up
mkdir run/before
pivot_root . run/before
umount -l run/before
mount --make-rshared / # as on a host: systemd hands over credentials by a mount
exec env -i container=other PATH="$PATH" /lib/systemd/systemd --log-target=journal --show-status=no --unit=basic.target
"""


@dataclass(frozen=True)
class SystemdHost:
    """A booted host; `init` is its first process."""

    init: int

    def run(self, *command: str, text: str = "", timeout: float = PATIENCE) -> subprocess.CompletedProcess[str]:
        """Run a command on this host, outside its cgroups; `text` is its input."""
        spaces = ["--mount", "--uts", "--ipc", "--net", "--pid", "--cgroup", "--root", "--wd"]
        return subprocess.run(
            ["nsenter", f"--target={self.init}", *spaces, *command],
            input=text,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
            env={"PATH": os.environ["PATH"]},
        )

    def show(self, unit: str, name: str) -> str:
        """Return a property of a unit."""
        return self.run("systemctl", "show", "--value", f"--property={name}", unit).stdout.strip()

    def journal(self) -> str:
        """Return the newest lines of all units, for the message of a failure."""
        return self.run("journalctl", "--no-pager", "--output=short-precise", "--lines=80").stdout


@contextmanager
def systemd_host(folder: Path) -> Iterator[SystemdHost]:
    """Boot a host with the units of dnstrail, and with dnstrail in /opt/dnstrail; none of its units is started."""
    cgroup = next(path for path in _CGROUPS if (path / "cgroup.procs").exists()) / f"dts{os.getpid()}"
    log, root = folder / "log", folder / "root"
    cgroup.mkdir()
    root.mkdir()
    within = f'echo 0 >{cgroup}/cgroup.procs && exec "$@"'
    command = ["sh", "-c", within, "sh", *_UNSHARE, "sh", "-c", _BOOT, "sh", str(root)]
    with log.open("w") as stderr:
        process = subprocess.Popen(command, env={**os.environ, **_places()}, stdin=subprocess.DEVNULL, stderr=stderr)
    try:
        wait_until(lambda: _init_of(process.pid) or process.poll() is not None, "the first process")
        assert process.poll() is None, log.read_text()
        host = SystemdHost(_init_of(process.pid))
        wait_until(lambda: host.run("systemctl", "is-active", "basic.target").stdout == "active\n", "systemd")
        yield host
    finally:
        process.kill()  # and its child, and thus all processes of the namespace
        process.wait()
        wait_until(lambda: _removed(cgroup), "the end of the cgroups")


def _places() -> dict[str, str]:
    """Return where the boot finds Python, its packages, and dnstrail, and where they are on the host."""
    base = Path(sys.base_prefix)
    interpreter = Path(sys.executable).resolve().relative_to(base)
    folders = ["shared", *(f"services/{path.name}" for path in sorted((ROOT / "services").iterdir()))]
    modules = [f"/opt/source/{folder}" for folder in folders]
    return {
        "BASE": str(base),
        "SITE": sysconfig.get_path("purelib"),
        "SOURCE": str(ROOT),
        "PYTHON": f"/opt/python/{interpreter}",
        "SET": f"LD_LIBRARY_PATH=/opt/python/lib PYTHONPATH={':'.join(['/opt/site', *modules])}",
    }


def _init_of(parent: int) -> int:
    """Return the only child of a process; 0 without one."""
    children = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
    return int(children[0]) if children else 0


def _removed(cgroup: Path) -> bool:
    """Remove a cgroup and those below it; return whether all are gone."""
    for path, _, _ in os.walk(cgroup, topdown=False):
        try:
            Path(path).rmdir()
        except OSError:
            return False
    return not cgroup.exists()
