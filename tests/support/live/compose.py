"""The containers of the compose file, with its users, capabilities and volumes, from the files of this host."""

from __future__ import annotations

import site
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from live.docker_daemon import Daemon

ROOT = Path(__file__).parents[3]
IMAGE = "dnstrail-host-files"  # folders to mount on, and the folders of the sockets as deploy/Dockerfile makes them
GROUP, CACHE_USER, FINDINGS_USER = 990, 990, 992
_SHARED = ("/usr", "/bin", "/lib", "/lib64", "/etc/ssl", "/etc/ld.so.cache")
_RUN_DIRS = (
    ("run/dnstrail", CACHE_USER),
    ("run/dnstrail-probe", 0),
    ("run/dnstrail-findings", FINDINGS_USER),
    ("var/lib/dnstrail", CACHE_USER),
)


@contextmanager
def composed(daemon: Daemon, folder: Path) -> Iterator[dict[str, int]]:
    """Run the services of the compose file; yield the main process of each, by name."""
    _import_image(daemon, folder)
    services = workers_of_compose()
    daemon.docker("network", "create", "--internal", "metrics")
    names = sorted(services, key=lambda name: name == "probe")  # subscribers first
    try:
        for name in names:
            daemon.docker(
                "run", "--detach", "--name", name, *_options(services[name]), IMAGE, *_command(services[name])
            )
        yield {name: int(daemon.docker("inspect", "--format", "{{.State.Pid}}", name)) for name in names}
    finally:
        daemon.docker("rm", "--force", *names)


def workers_of_compose() -> dict[str, Any]:
    """Return the services of the compose file that run without a profile."""
    services = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
    return {name: service for name, service in services.items() if "profiles" not in service}


def _options(service: dict[str, Any]) -> list[str]:
    options = ["--user", service["user"], "--network", *service["networks"], "--memory", service["mem_limit"]]
    options += ["--read-only"] * service["read_only"]
    options += [word for key in ("pid", "uts") if key in service for word in (f"--{key}", service[key])]
    lists = {"cap_drop": "--cap-drop", "cap_add": "--cap-add", "security_opt": "--security-opt", "tmpfs": "--tmpfs"}
    for key, option in lists.items():
        options += [word for value in service.get(key, ()) for word in (option, value)]
    volumes = [*service["volumes"], *(f"{path}:{path}:ro" for path in _host_files())]
    return options + [word for volume in volumes for word in ("--volume", volume)]


def _command(service: dict[str, Any]) -> list[str]:
    return [sys.executable, "-m", "dnstrail_cli", *service["command"]]


def _host_files() -> list[str]:
    """Return the folders of the host that contain Python, its packages, and dnstrail."""
    python = {sys.base_prefix, sys.prefix, str(ROOT), *site.getsitepackages()}
    found = {*(path for path in _SHARED if Path(path).exists()), *python}
    return sorted(path for path in found if not any(path.startswith(f"{other}/") for other in found))


def _import_image(daemon: Daemon, folder: Path) -> None:
    root = folder / "root"
    for path, owner in _RUN_DIRS:
        made = root / path
        made.mkdir(parents=True)
        made.chmod(0o750)
        subprocess.run(["chown", f"{owner}:{GROUP}", made], check=True)
    (root / "run").chmod(0o755)
    (root / "etc").mkdir()
    (root / "etc/passwd").write_text("root:x:0:0::/:/bin/sh\ndnstrail:x:990:990::/:/bin/false\n")
    (root / "etc/group").write_text("root:x:0:\ndnstrail:x:990:\n")
    subprocess.run(["tar", "-C", root, "-cf", folder / "root.tar", "."], check=True)
    daemon.docker("import", str(folder / "root.tar"), IMAGE)
