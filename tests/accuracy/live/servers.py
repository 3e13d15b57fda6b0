"""The servers of the made-up internet: unbound for its names, nginx for HTTP, HTTPS and whatever else connects."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from authority import make_certificates
from daemons import UNBOUND, daemon
from hosts import Host
from internet import READY, RESOLVER, ZONE, Site
from zone import zone_file

PORTS = (80, 443, 22)
_UNBOUND = (
    UNBOUND
    + """\
    interface: {address}
    access-control: 0.0.0.0/0 allow
    module-config: "iterator"
    minimal-responses: yes
    local-zone: "." always_nxdomain
    local-zone: "{zone}" transparent
remote-control:
    control-enable: no
auth-zone:
    name: "{zone}"
    zonefile: "{folder}/zone"
    for-downstream: no
    for-upstream: yes
"""
)
_NGINX = """
daemon off;
worker_processes 1;
pid {folder}/nginx.pid;
error_log stderr;
events {{ worker_connections 4096; }}
http {{
    access_log off;
    keepalive_requests 1;
    root {folder}/www;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    server {{
        listen 80 backlog=1024;
        listen [::]:80 backlog=1024;
        listen 443 ssl http2 backlog=1024;
        listen [::]:443 ssl http2 backlog=1024;
        listen 22;
        listen [::]:22;
        ssl_certificate {folder}/certificate.pem;
        ssl_certificate_key {folder}/key.pem;
        location / {{ try_files $uri /page; }}
    }}
}}
"""


@contextmanager
def servers(host: Host, folder: Path, sites: list[Site]) -> Iterator[None]:
    """Serve all names and pages."""
    make_certificates(folder, [site.name for site in sites])
    (folder / "zone").write_text(zone_file(sites))
    _write_pages(folder / "www")
    (folder / "unbound.conf").write_text(_UNBOUND.format(folder=folder, address=RESOLVER, zone=ZONE))
    (folder / "nginx.conf").write_text(_NGINX.format(folder=folder))
    resolver = ("unbound", "-d", "-c", folder / "unbound.conf")
    web = ("nginx", "-c", folder / "nginx.conf")
    with (
        daemon(host, folder / "unbound.log", lambda: _resolves(host), *resolver),
        daemon(host, folder / "nginx.log", lambda: _serves(host), *web),
    ):
        yield


def _write_pages(folder: Path) -> None:
    repository = folder / "repository.git"
    (repository / "info").mkdir(parents=True)
    (folder / "page").write_text("<html><body>a page</body></html>\n")
    (repository / "HEAD").write_text("ref: refs/heads/main\n")
    (repository / "info/refs").write_text(f"{'1' * 40}\trefs/heads/main\n")


def _resolves(host: Host) -> bool:
    return "NOERROR" in host.run("dig", f"@{RESOLVER}", "+time=1", "+tries=1", READY).stdout


def _serves(host: Host) -> bool:
    listening = host.run("ss", "-Hltn").stdout
    return all(f":{port} " in listening for port in PORTS)
