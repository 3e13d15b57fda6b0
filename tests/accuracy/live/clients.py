"""The clients: real programs and libraries, each with the command that fetches URLs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from hosts import UNPACKED, Host

PROGRAMS = Path(__file__).with_name("programs")
_PYTHON = UNPACKED / "venv/bin/python"
_PHP = next((UNPACKED / "root/usr/bin").glob("php[0-9].[0-9]"), Path("php")).name  # its package makes no plain link
_JDK = next((UNPACKED / "root/usr/lib/jvm").glob("java-[0-9]*-openjdk-*/bin"), None)  # likewise
JAVA, JAVAC, KEYTOOL = (
    f"/{_JDK.relative_to(UNPACKED / 'root')}/{name}" if _JDK else name for name in ("java", "javac", "keytool")
)
Command = Callable[[list[str], Path], list[str]]  # of the URLs, and of a folder for what the client writes


@dataclass(frozen=True)
class Client:
    """A client. `needs` is the program, or the file, without which it cannot run; `most` bounds the URLs of a process.

    `scheme` is "" if it fetches http and https. A `large` client takes part only if it is asked for.
    """

    name: str
    needs: str
    most: int
    command: Command
    scheme: str = ""
    large: bool = False


def environment(folder: Path) -> dict[str, str]:
    """Return the environment of every client: it trusts the local authority, and uses no proxy."""
    trust = ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "NODE_EXTRA_CA_CERTS", "PERL_LWP_SSL_CA_FILE")
    found = dict.fromkeys((*trust, "GIT_SSL_CAINFO"), f"{folder}/ca.pem")
    path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    return {**found, "PATH": path, "HOME": str(folder), "LANG": "C.UTF-8"}


def missing(clients: list[Client], host: Host) -> set[str]:
    """Return the names of the clients that cannot run."""
    return {one.name for one in clients if not (Path(one.needs).exists() or host.has(one.needs))}


def _all(*words: str) -> Command:
    return lambda urls, _folder: [*words, *urls]


def _in_folder(*words: str) -> Command:
    return lambda urls, folder: [*words, str(folder), *urls]


def _host_of(url: str) -> str:
    return url.split("/")[2]


def _curl_at_once(urls: list[str], _folder: Path) -> list[str]:
    return ["curl", "-sS", "-m10", "--parallel", "--parallel-immediate", *urls]


def _git(urls: list[str], _folder: Path) -> list[str]:
    return ["git", "ls-remote", f"{urls[0]}repository.git"]


def _apt(urls: list[str], folder: Path) -> list[str]:
    options = ("APT::Sandbox::User=root", "Acquire::Retries=0", f"Acquire::https::CAInfo={folder.parent}/ca.pem")
    words = [word for option in options for word in ("-o", option)]
    return ["/usr/lib/apt/apt-helper", *words, "download-file", f"{urls[0]}page", str(folder / "page")]


def _ssh(urls: list[str], _folder: Path) -> list[str]:
    options = ("-oBatchMode=yes", "-oStrictHostKeyChecking=no", "-oUserKnownHostsFile=/dev/null", "-oConnectTimeout=5")
    return ["ssh", *options, "-l", "nobody", _host_of(urls[0]), "true"]


def _chromium(resolver: str) -> Command:
    """Return the command of a browser with a resolver: its own, or the one of the C library."""
    quiet = ("--disable-background-networking", "--disable-component-update", "--no-first-run", "--disable-sync")
    options = ("--headless", "--no-sandbox", "--disable-gpu", "--ignore-certificate-errors", resolver, *quiet)

    def command(urls: list[str], folder: Path) -> list[str]:
        page = folder / "page.html"
        page.write_text("".join(f'<img src="{url}page">' for url in urls))
        profile = (f"--user-data-dir={folder}/profile", "--virtual-time-budget=2000")
        return ["chromium", *options, *profile, "--dump-dom", str(page)]

    return command


def _python(library: str, how: str) -> Command:
    return _all(str(_PYTHON), str(PROGRAMS / "fetch.py"), library, how)


def _node(library: str, how: str) -> Command:
    return _all("node", str(PROGRAMS / "fetch.mjs"), str(UNPACKED / "node"), library, how)


def _go(resolver: str, how: str) -> Command:
    return lambda urls, folder: ["env", f"GODEBUG=netdns={resolver}", str(folder.parent / "fetch"), how, *urls]


def _java(library: str, how: str) -> Command:
    def command(urls: list[str], folder: Path) -> list[str]:
        trust = f"-Djavax.net.ssl.trustStore={folder.parent}/ca.p12"
        return [JAVA, "-XX:TieredStopAtLevel=1", trust, "-cp", str(folder.parent), "Fetch", library, how, *urls]

    return command


def _large(name: str, needs: str, most: int, command: Command) -> Client:
    return Client(name, needs, most, command, large=True)


def _from_python(name: str, library: str, how: str, most: int, *, module: str = "") -> Client:
    needs = next(_PYTHON.parents[1].glob(f"lib/python*/site-packages/{module or library}"), Path(library))
    return Client(name, str(needs), most, _python(library, how))


CLIENTS = [
    Client("curl", "curl", 3, _all("curl", "-sS", "-m10")),
    Client("curl-Z", "curl", 8, _curl_at_once),
    Client("wget", "wget", 3, _all("wget", "-q", "-T5", "-t1", "-O/dev/null")),
    Client("wget2", "wget2", 6, _all("wget2", "-q", "-T5", "-t1", "-O/dev/null")),
    Client("aria2c", "aria2c", 6, _in_folder("aria2c", "-q", "-Z", "-t5", "-m1", "--allow-overwrite", "-d")),
    Client("axel", "axel", 1, lambda urls, folder: ["axel", "-q", "-n1", "-o", str(folder / "axel"), *urls]),
    Client("busybox-wget", "busybox", 1, _all("busybox", "wget", "-q", "-T5", "-O/dev/null"), "http"),
    Client("lynx", "lynx", 1, _all("lynx", "-dump", "-connect_timeout=5")),
    Client("w3m", "w3m", 1, _all("w3m", "-dump")),
    Client("git", "git", 1, _git),
    Client("apt", "/usr/lib/apt/apt-helper", 1, _apt),
    Client("ssh", "ssh", 1, _ssh, "ssh"),
    Client("urllib", str(_PYTHON), 4, _python("urllib", "in-turn")),
    _from_python("requests", "requests", "in-turn", 4),
    _from_python("requests-threads", "requests", "at-once", 8),
    _from_python("httpx", "httpx", "in-turn", 4),
    _from_python("httpx-asyncio", "httpx-async", "at-once", 8, module="httpx"),
    _from_python("aiohttp", "aiohttp", "at-once", 8),
    _from_python("niquests-threads", "niquests", "at-once", 6),
    Client("node-https", "node", 4, _node("https", "in-turn")),
    Client("node-fetch", "node", 8, _node("fetch", "at-once")),
    Client("undici", str(UNPACKED / "node/node_modules/undici"), 4, _node("undici", "in-turn")),
    Client("got", str(UNPACKED / "node/node_modules/got"), 6, _node("got", "at-once")),
    Client("axios", str(UNPACKED / "node/node_modules/axios"), 8, _node("axios", "at-once")),
    Client("ruby", "ruby", 4, _all("ruby", str(PROGRAMS / "fetch.rb"), "in-turn")),
    Client("ruby-threads", "ruby", 8, _all("ruby", str(PROGRAMS / "fetch.rb"), "at-once")),
    Client("php", _PHP, 4, _all(_PHP, "-n", str(PROGRAMS / "fetch.php"))),
    Client("perl-lwp", "lwp-request", 4, _all("perl", str(PROGRAMS / "fetch.pl"), "lwp")),
    Client("perl-http-tiny", "lwp-request", 4, _all("perl", str(PROGRAMS / "fetch.pl"), "tiny")),
    _large("go-pure", "go", 8, _go("go", "at-once")),
    _large("go-cgo", "go", 8, _go("cgo", "at-once")),
    _large("go-in-turn", "go", 4, _go("go", "in-turn")),
    _large("java-client", JAVAC, 8, _java("client", "at-once")),
    _large("java-url", JAVAC, 4, _java("url", "in-turn")),
    _large("chromium", "chromium", 6, _chromium("--enable-features=AsyncDns")),
    _large("chromium-libc", "chromium", 6, _chromium("--disable-features=AsyncDns")),
]
