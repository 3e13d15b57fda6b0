"""The folder of a web server: a page, a git repository, and a mirror with one Debian package."""

from __future__ import annotations

import hashlib
import subprocess
from pathlib import Path

_PACKAGE = "Package: hello\nVersion: 1\nArchitecture: all\nFilename: ./hello.deb\nSize: {size}\nSHA256: {digest}\n"
_REPOSITORY = """
git init -q work
echo from git > work/file
git -C work add file
git -C work -c user.name=x -c user.email=x@example.com commit -q -m x
git clone -q --bare work repository
git -C repository update-server-info
"""
# Serves a folder, and writes one line for each connection: the port of the peer, and the host of its first request.
SERVES = """
import functools, http.server, sys
class Handler(http.server.SimpleHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    known = False
    def send_head(self):
        if not self.known:
            self.known = True
            print(self.client_address[1], self.headers["Host"], flush=True)
        return super().send_head()
    def log_message(self, *_):
        pass
handler = functools.partial(Handler, directory=sys.argv[1])
server = http.server.ThreadingHTTPServer(("", 80), handler)
print("ready", flush=True)
server.serve_forever()
"""
# The command line of apt-get in a folder of its own, with the file `sources.list` there.
APT = (
    "apt-get -q -o Dir::Etc::sourcelist=$PWD/sources.list -o Dir::Etc::sourceparts=- -o Dir::State=$PWD/state "
    "-o Dir::Cache=$PWD/cache -o APT::Sandbox::User=root -o Acquire::Languages=none -o Acquire::http::Proxy=DIRECT "
    "-o APT::Update::Error-Mode=any"
)
APT_FOLDERS = "mkdir -p state/lists/partial cache/archives/partial"


def make_site(folder: Path) -> None:
    """Make the folder."""
    package = b"a package\n"
    folder.mkdir()
    (folder / "page").write_text("a page\n")
    (folder / "hello.deb").write_bytes(package)
    digest = hashlib.sha256(package).hexdigest()
    (folder / "Packages").write_text(_PACKAGE.format(size=len(package), digest=digest))
    subprocess.run(["sh", "-ec", _REPOSITORY], cwd=folder, check=True)
