"""The Unix sockets of services that start processes or make connections for others: the command does not find them.

The launcher has a mount namespace of its own, in which each of these sockets is covered by /dev/null. Links and other
paths to it lead there, too. Mounts that the host makes later appear in this namespace, and not the other way round.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Collection, Iterator
from pathlib import Path

from dnstrail.errors import SourceUnavailable
from dnstrail.kernel.libc import call

# Containers, virtual machines, and the buses of the system and of systemd: in folders of root.
_OF_ROOT = (
    "/run/docker.sock",
    "/run/containerd/containerd.sock",
    "/run/k3s/containerd/containerd.sock",
    "/run/podman/podman.sock",
    "/run/crio/crio.sock",
    "/run/buildkit/buildkitd.sock",
    "/run/libvirt/libvirt-sock",
    "/run/snapd.socket",
    "/var/lib/lxd/unix.socket",
    "/var/snap/lxd/common/lxd/unix.socket",
    "/var/lib/incus/unix.socket",
    "/run/dbus/system_bus_socket",
    "/run/systemd/private",
    "/run/ssh-unix-local/socket",
)
# The same of a user, terminals that outlive a session, and the part of GnuPG that fetches keys.
_OF_USER = (
    "/run/user/{}/bus",
    "/run/user/{}/systemd/private",
    "/run/user/{}/docker.sock",
    "/run/user/{}/podman/podman.sock",
    "/run/user/{}/buildkit/buildkitd.sock",
    "/run/user/{}/gnupg/S.dirmngr",
    "/tmp/tmux-{}/*",  # noqa: S108 - where tmux has it
    "/run/screen/S-*/*",
)
# Services that ask DNS for the command: nscd, systemd-resolved and machined by Varlink, Avahi, sssd.
_ASKING = (
    "/run/nscd/socket",
    "/run/systemd/resolve/io.systemd.Resolve",
    "/run/systemd/resolve/io.systemd.Resolve.Monitor",
    "/run/systemd/machine/io.systemd.Machine",
    "/run/avahi-daemon/socket",
    "/var/lib/sss/pipes/nss",
)
_SYSTEM_BUS = "/run/dbus/system_bus_socket"  # where org.freedesktop.resolve1 and Avahi answer
# Variables of the environment that name a socket in another place: `unix:///run/docker.sock`, `unix:path=/run/bus,...`.
_VARIABLES = ("DOCKER_HOST", "CONTAINER_HOST", "BUILDKIT_HOST", "DBUS_SESSION_BUS_ADDRESS")
_NAMED = re.compile(r"unix:(?:path=|//)?(/[^,;]*)")
#: sockets of services that `--enforce` hides -> exit code 4: sockets of the user are left over, as of tmux
MOST_HIDDEN = 256
_NEW_MOUNTS = 0x00020000  # CLONE_NEWNS
_BIND, _ALL_BELOW, _SLAVE = 0x1000, 0x4000, 0x80000  # MS_BIND, MS_REC, MS_SLAVE


def hide_services(user: int, allowed: Collection[str], *, any_question: bool) -> list[str]:
    """Hide the sockets of services from this process and all that it starts; return their paths as text.

    Those that ask DNS for others are hidden unless `any_question` is allowed. The environment names some. Those in
    `allowed` stay. A socket in a folder of the user is hidden if it belongs to this user.

    Raises:
        SourceUnavailable: the kernel refused it, or the list has one that asks every name; the error names the remedy.
    """
    kept = {*map(os.path.realpath, allowed)}
    asking = () if any_question else _ASKING
    _refuse_askers(kept, asking and (*asking, _SYSTEM_BUS))
    named = [path for variable in _VARIABLES for path in _NAMED.findall(os.environ.get(variable, ""))]
    everywhere = dict.fromkeys([*named, *_candidates(user, asking)])
    found = [path for path in everywhere if Path(path).is_socket() and os.path.realpath(path) not in kept]
    if not found:
        return []
    if len(found) > MOST_HIDDEN:
        raise SourceUnavailable("enforce", f"more than {MOST_HIDDEN} sockets of services", "remove those left over")
    try:
        call("unshare", _NEW_MOUNTS)
        call("mount", None, b"/", None, _ALL_BELOW | _SLAVE, None)
        hidden = [path for path in found if _hide(path, None if path in (*named, *_OF_ROOT, *asking) else user)]
        return [os.fsencode(path).decode(errors="backslashreplace") for path in hidden]
    except OSError as error:
        raise SourceUnavailable("enforce", f"cannot hide the sockets of services: {error.strerror}", "root") from error


def _refuse_askers(kept: Collection[str], asking: Collection[str]) -> None:
    """Refuse a list that has a socket behind which a service asks any name for the command."""
    for path in asking:
        if Path(path).is_socket() and os.path.realpath(path) in kept:
            reason = f"the list has {path}, and the service behind it asks any name for the command"
            raise SourceUnavailable("enforce", reason, "remove the entry, or use --any-question")


def _candidates(user: int, asking: Collection[str]) -> Iterator[str]:
    for pattern in (*_OF_ROOT, *asking, *(pattern.format(user) for pattern in _OF_USER)):
        yield from map(str, Path("/").glob(pattern.removeprefix("/")))


def _hide(path: str, owner: int | None) -> bool:
    """Cover a socket of a user, or of whomever. It may be replaced meanwhile: the descriptor stands for it."""
    try:
        descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:  # removed meanwhile, or a link that leads nowhere
        return False
    try:
        found = os.fstat(descriptor)
        if not stat.S_ISSOCK(found.st_mode) or owner not in (None, found.st_uid):
            return False
        call("mount", b"/dev/null", f"/proc/self/fd/{descriptor}".encode(), None, _BIND, None)
        return True
    finally:
        os.close(descriptor)
