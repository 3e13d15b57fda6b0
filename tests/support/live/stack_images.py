"""The images of the stack, built in a folder of this checkout that keeps them: a second build takes seconds."""

from __future__ import annotations

import os
import re
import shutil
import ssl
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

from live.docker_daemon import Daemon, dockerd

ROOT = Path(__file__).parents[3]
DATA = ROOT / ".docker"
SERVER, ENGINE = "dnstrail-server", "dnstrail-engine"  # dnsmasq and Valkey of this host with their libraries
VALKEY = ROOT / ".valkey/root"
BUILD = 900  # seconds
FILES = ("--file", str(ROOT / "docker-compose.yml"), "--file", str(ROOT / "tests/docker/stack.yml"))
_BASE = re.compile(r"^FROM (\S+)", re.MULTILINE)
_UNUSED = ("usr/share/doc", "usr/share/locale", "usr/share/man", "var/lib/apt/lists", "var/cache/apt/archives")


def build_images(folder: Path) -> None:
    """Build the image of the workers and of a DNS server, by a daemon that shares the network of this host."""
    with dockerd(DATA, None) as daemon:
        for base in set(_BASE.findall((ROOT / "deploy/Dockerfile").read_text())):
            _provide_base(daemon, base, folder / "base")
        certificates = ssl.get_default_verify_paths().cafile or os.devnull
        daemon.docker("compose", *FILES, "build", timeout=BUILD, DNSTRAIL_BUILD_CA=certificates)
        daemon.docker("image", "prune", "--force")  # the image of the build before
        _import_program(daemon, Path("/usr/sbin/dnsmasq"), SERVER, folder / "server")
        _import_program(daemon, VALKEY / "usr/bin/valkey-server", ENGINE, folder / "valkey", VALKEY)


def workers_of_compose() -> dict[str, Any]:
    """Return the services of the compose file that run without a profile."""
    services = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
    return {name: service for name, service in services.items() if "profiles" not in service}


def _provide_base(daemon: Daemon, base: str, root: Path) -> None:
    if daemon.docker("image", "ls", "--quiet", base):
        return
    try:
        daemon.docker("pull", "--quiet", base, timeout=BUILD)
    except AssertionError as error:
        sys.stdout.write(f"{error}: {base} is made by debootstrap\n")
        release = base.partition(":")[2].partition("-")[0]
        command = ["debootstrap", "--variant=minbase", release, str(root)]
        subprocess.run(command, check=True, capture_output=True, timeout=BUILD)
        for unused in _UNUSED:
            shutil.rmtree(root / unused)
            (root / unused).mkdir()
        _import(daemon, root, base)


def _import_program(daemon: Daemon, program: Path, image: str, root: Path, unpacked: Path = Path("/")) -> None:
    """Import an image of a program of this host, or of a folder with an unpacked package, and its libraries."""
    if daemon.docker("image", "ls", "--quiet", image):
        return
    libraries = ":".join(map(str, unpacked.glob("usr/lib/*-linux-gnu")))
    environment = {**os.environ, "LD_LIBRARY_PATH": libraries}
    linked = subprocess.run(["ldd", program], capture_output=True, text=True, check=True, env=environment).stdout
    for path in ["/etc/passwd", "/etc/group", str(program), *re.findall(r"(/\S+) \(0x", linked)]:
        copy = root / path.removeprefix(str(unpacked)).lstrip("/")
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, copy)
    _import(daemon, root, image)


def _import(daemon: Daemon, root: Path, image: str) -> None:
    archive = root.with_suffix(".tar")
    subprocess.run(["tar", "-C", root, "-cf", archive, "."], check=True)
    daemon.docker("import", str(archive), image)
    archive.unlink()
