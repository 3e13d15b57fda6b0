"""The API of a page beside a running service: the same as the commands, live, and resumed.

Tests of dnstrail_web.api, dnstrail_web.past, dnstrail_web.worker, dnstrail_web.server, dnstrail_web.muting,
dnstrail_web.routes, dnstrail_web.metrics, dnstrail_web.assembly, dnstrail.history.relations, dnstrail_cli.open_page.
"""

from __future__ import annotations

import json
import re
import time
from collections import Counter
from contextlib import ExitStack, closing
from types import SimpleNamespace
from urllib.error import HTTPError
from urllib.request import urlopen

import pytest

from builders.dnstap_builders import START, first_writer
from dnstrail.bus.ipc import lookups_address
from live.processes import PATIENCE, dnstrail, metrics_port, run_dir, started, text_of, wait_until
from live.tapped_resolver import resolved, resolver
from live.web_page import WebPage, web_page
from live.workers import asker


@pytest.fixture(scope="module")
def service():
    """Run a resolver, cache, history, signatures that report n1.example, findings, and the page."""
    with ExitStack() as stack:
        folder, client, writer = stack.enter_context(resolver())
        base = folder.parent
        (base / "watch").write_text("n1.example\nlast.example\n")
        published, history = f"ipc://{folder}/published.sock", base / "history"
        stack.enter_context(started("history", "--run-dir", folder, "--folder", history))
        stack.enter_context(started("findings", "--run-dir", folder, "--to", f"pub:{published}"))
        of_page = "--mutes", folder / "web.mutes", "--folder", history
        page = stack.enter_context(web_page(folder, *of_page, "--findings", published))
        page.enter()
        receive = f"ipc://{folder}/findings.sock"
        own = "--findings", receive, "--mutes", folder / "web.mutes", "--select", "WATCHED_NAME"
        signatures = stack.enter_context(
            started("signatures", "--run-dir", folder, *own, DNSTRAIL_WATCH_LIST=str(base / "watch"))
        )
        assert signatures.stderr
        next(line for line in signatures.stderr if json.loads(line)["event"] == "ready")
        feed = page.feed()
        number = 0
        while not page.json("/api/findings")["data"]:  # all of them are subscribed
            writer.send(resolved(1))
            number += 1
            wait_until(lambda: client.ask("health")["data"]["turns"], "a turn")
        feed.close()
        for one in range(3, 30):
            writer.send(resolved(one))
        wait_until(lambda: len(log(page, "name=n29.example")) == 1, "the history")
        yield SimpleNamespace(page=page, folder=folder, history=history, writer=writer, client=client)


def log(page, query: str = "") -> list[str]:
    """Return the lines of the log."""
    return page.request("GET", f"/api/log?{query}")[2].decode().splitlines()


def test_get_and_trail_are_those_of_the_commands(service):
    """The data of a lookup is what the command prints."""
    for key in ("n3.example", "192.0.2.7"):
        printed = json.loads(dnstrail("get", "--json", "--run-dir", service.folder, key).stdout)
        assert {"key": key, "found": True, **service.page.json(f"/api/get?key={key}")["data"]} == printed
        at = f"{time.time():.6f}"  # ages are as of then
        printed = json.loads(dnstrail("trail", "--json", "--run-dir", service.folder, key, "--at", at).stdout)
        assert service.page.json(f"/api/trail?key={key}&at={at}")["data"] == printed


def test_an_unknown_key_is_the_error_of_the_wire(service):
    """A key without data is `data_not_found`, with the last question for it."""
    status, _, body = service.page.request("GET", "/api/get?key=n4.example")
    error = json.loads(body)
    assert (status, error["ok"], error["error"]) == (404, False, "data_not_found")
    assert error["asked"]["outcome"] == "NXDOMAIN"


@pytest.mark.parametrize(
    ("query", "options"),
    [
        ("", ()),
        ("last=5", ("--last", "5")),
        ("name=n1*.example", ("--name", "n1*.example")),
        ("outcome=nxdomain", ("--outcome", "nxdomain")),
        ("outcome=nxdomain&outcome=answered&last=9", ("--outcome", "nxdomain", "--outcome", "answered", "--last", "9")),
        ("address=192.0.2.0/24", ("--address", "192.0.2.0/24")),
        ("until=2000-01-01T00:00:00Z", ("--until", "2000-01-01T00:00:00Z")),
        ("slower=0", ("--slower", "0ms")),
        ("connections=true", ("--connections",)),
    ],
)
def test_the_log_is_that_of_the_command(service, query, options):
    """The lines of the log are those that `dnstrail log --json` prints for the same selection."""
    printed = dnstrail("log", "--json", "--folder", service.history, *options)
    assert printed.returncode == 0, printed.stderr
    assert log(service.page, query) == printed.stdout.splitlines()


@pytest.mark.parametrize("places", [9, 6, 3])
def test_an_answer_is_found_by_the_time_of_its_question(service, places):
    """The time of an entry finds its answer, in ns and to the last digit that is written, and no earlier time does."""
    stamp = json.loads(log(service.page, "name=n3.example")[0])["timestamp"]
    cut = stamp // 10 ** (9 - places)
    for at in (f"{cut}", f"{stamp // 10**9}.{cut % 10**places:0{places}}"):
        for path in (f"/api/get?key=n3.example&at={at}", f"/api/trail?key=n3.example&at={at}"):
            assert service.page.request("GET", path)[0] == 200, at
    assert service.page.request("GET", f"/api/get?key=n3.example&at={stamp - 3000}")[0] == 404


def test_seen_new_and_passive_dns_are_those_of_the_commands(service):
    """What was seen, what is new, and passive DNS are what the commands print."""
    folder = "--folder", service.history
    seen = service.page.json("/api/seen?key=192.0.2.7")["data"]
    assert {life[2] for one in seen for life in one.pop("lives")} >= {1}
    assert seen == [json.loads(line) for line in dnstrail("seen", "--json", *folder, "192.0.2.7").stdout.splitlines()]
    new = [json.loads(line) for line in dnstrail("new", "--json", *folder).stdout.splitlines()]
    assert service.page.json("/api/new")["data"] == new != []
    found = service.page.request("GET", "/query/192.0.2.7")[2].decode()
    assert found == dnstrail("seen", "--cof", *folder, "192.0.2.7").stdout
    assert service.page.request("GET", "/query/nothing.example")[0] == 404


def test_a_question_appears_in_the_feed_as_in_the_log(service):
    """A question is in the feed once it has ended, as the log has it once it is stored."""
    feed = service.page.feed("?kinds=questions")
    service.writer.send(resolved(31))
    entries: list = []
    while not entries:  # a question of an earlier test may come first
        entries = [entry for entry in feed.next("questions")[2] if entry["name"] == "n31.example"]
    feed.close()
    [line] = wait_for(lambda: log(service.page, "name=n31.example&domain=true"))
    assert entries == [json.loads(line)]
    [plain] = log(service.page, "name=n31.example")
    assert entries == [json.loads(plain) | {"domain": "n31.example"}]


def test_a_feed_resumes_without_a_gap(service):
    """A reader that comes back with the id of its last message receives all later ones, each once."""
    feed = service.page.feed("?kinds=questions")
    names: list[str] = []
    for number in range(41, 90, 2):
        service.writer.send(resolved(number))
        if number % 10 == 1:
            last, _, entries = feed.next("questions")
            names += [entry["name"] for entry in entries]
            feed.close()
            service.writer.send(resolved(number + 1))
            wait_for(lambda number=number: log(service.page, f"name=n{number + 1}.example"))
            feed = service.page.feed("?kinds=questions", last)
    expected = {f"n{number}.example" for number in range(41, 90, 2)}
    while not expected <= {*names}:
        names += [entry["name"] for entry in feed.next("questions")[2]]
    feed.close()
    assert len(names) == len({*names})


def test_a_feed_of_another_run_is_fetched_anew(service):
    """A reader that resumes with an id that this run never sent is told to fetch anew, and then receives all."""
    for last in ("00000000-1", "x", f"{'9' * 40}", "-1"):
        feed = service.page.feed(last=last)
        assert feed.next("notice")[2] == {"reason": "gap"}
        service.writer.send(resolved(33))
        assert [*names_until(feed, "n33.example")]
        feed.close()


def test_health_counts_outcomes_beside_losses(service):
    """The minutes have the outcomes of the resolver; nothing was lost."""
    buckets: list = []

    def has_all() -> bool:
        buckets[:] = service.page.json("/api/health?since=0")["data"]["buckets"]
        of_resolver = [one["outcomes"] for bucket in buckets for one in bucket["resolvers"].values()]
        return sum(outcomes.get("nxdomain", 0) for outcomes in of_resolver) >= 13

    wait_until(has_all, "the questions")
    assert {bucket["lost"] for bucket in buckets} <= {0, None}
    assert service.page.json("/api/health?since=2&until=1")["error"] == "bad_request"


def test_a_muted_finding_is_not_reported(service):
    """A signature worker obeys a mute: the finding is not reported until the mute is removed."""
    page = service.page
    status, reply = page.send("POST", "/api/mutes", {"event": "WATCHED_NAME", "value": "last.example", "seconds": 900})
    assert status == 201
    assert page.json("/api/mutes")["data"] == [reply["data"]]
    asked = send_until(service, 101, lambda: suppressed(service))
    asked, muted = await_earlier(service, asked), suppressed(service)
    reported = reports(page, "last.example")
    asked = send_until(service, asked, lambda: suppressed(service) >= muted + 3)
    asked = await_earlier(service, asked)
    assert reports(page, "last.example") == reported
    assert page.request("DELETE", f"/api/mutes/{reply['data']['id']}")[0] == 200
    assert page.json("/api/mutes")["data"] == []
    send_until(service, asked, lambda: reports(page, "last.example") > reported)


def await_earlier(service, number: int) -> int:
    """Wait until the page has a later finding about n1.example, and all earlier ones; return the next client."""
    before = reports(service.page, "n1.example")
    return send_until(service, number, lambda: reports(service.page, "n1.example") > before, "n1.example")


def send_until(service, number: int, condition, name: str = "last.example") -> int:
    """Let one client after another ask for a name until a condition holds; return the next client."""
    while not condition():
        service.writer.send(resolved(number, name))
        number += 2
        time.sleep(0.2)  # paces the clients: each has one report in five seconds
        assert number < 1000
    return number


def suppressed(service) -> int:
    """Return how many findings the signature worker has suppressed."""
    groups = service.client.ask("stats")["data"]["groups"]
    return int(re.search(r"'suppressed': (\d+)", str(groups))[1]) if "'suppressed'" in str(groups) else 0


def reports(page, name: str) -> int:
    """Return the number of findings about a name."""
    found = page.json("/api/findings")["data"]
    return sum({"dns_root", name} <= {*map(str, arg.values())} for one in found for arg in one["args"])


def test_the_metrics_count_readers_and_facts():
    """The metrics have the readers of the feed, and facts by outcome."""
    with run_dir() as folder, web_page(folder, "--folder", "none", "--metrics", "0") as page:
        metrics = metrics_port(page.process)
        page.enter()
        feed = page.feed()
        wait_until(lambda: "dnstrail_web_readers 1.0" in scraped(metrics), "the reader")
        feed.close()
        wait_until(lambda: 'dnstrail_web_facts_total{outcome="received"} 0.0' in scraped(metrics), "the counter")


def scraped(port: int) -> str:
    """Return the metrics of a worker, "" before it has any."""
    try:
        with urlopen(f"http://127.0.0.1:{port}/metrics", timeout=PATIENCE) as reply:
            return reply.read().decode()
    except HTTPError as error:
        error.close()
        return ""


def test_attacks_on_the_page_lose_nothing(service):
    """While strangers open connections and send what is no HTTP, every question is stored, and nothing is lost."""
    for number in range(201, 400, 2):
        service.writer.send(resolved(number))
        with service.page.connect() as connection:
            connection.sendall(b"GET /api/events HTTP/1.1\r\n" if number % 4 == 1 else b"\0" * 100_000)
    wait_for(lambda: log(service.page, "name=n399.example"))
    found = {json.loads(line)["name"] for line in log(service.page)}
    assert {f"n{number}.example" for number in range(201, 400, 2)} <= found
    assert service.client.ask("stats")["data"]["lost"]["total"] == 0


def test_a_restarted_cache_repeats_no_question():
    """Questions that a cache publishes again after its restart are in the feed and in the outcomes once."""
    with run_dir() as folder, ExitStack() as stack:
        cache = stack.enter_context(ExitStack())
        cache.enter_context(started("cache", "--run-dir", folder))
        capture = "--capture", f"dnstap:{folder}/dnstap.sock"
        stack.enter_context(started("probe", "--run-dir", folder, *capture, "--subscribers", "1"))
        await_probe(folder)
        writer = stack.enter_context(closing(first_writer(folder / "dnstap.sock")))
        writer.send(START)
        page = stack.enter_context(web_page(folder, "--folder", "none"))
        page.enter()
        feed = stack.enter_context(closing(page.feed("?kinds=questions")))
        wait_until(lambda: writer.send(resolved(1)) or clients(page), "the first question")
        for number in range(3, 11, 2):
            writer.send(resolved(number))
        names = [*names_until(feed, "n9.example")]
        cache.close()
        cache.enter_context(started("cache", "--run-dir", folder))
        await_probe(folder)
        writer.send(resolved(11))
        names += names_until(feed, "n11.example")
        expected = range(3, 13, 2)
        assert [name for name in names if name != "n1.example"] == [f"n{number}.example" for number in expected]
        assert {clients(page)[f"192.0.2.{100 + number}"] for number in expected} == {1}


def await_probe(folder) -> None:
    """Wait until the cache hears the probe."""
    with asker(lookups_address(folder)) as client:
        wait_until(lambda: client.ask("health")["data"]["turns"], "the probe")


def names_until(feed, last: str):
    """Yield the names of the questions of a feed, to the message that has the last one."""
    names: list[str] = []
    while last not in names:
        names = [entry["name"] for entry in feed.next("questions")[2]]
        yield from names


def clients(page) -> Counter[str]:
    """Return how many questions of each client the outcomes have."""
    buckets = page.json("/api/health?since=0")["data"]["buckets"]
    asked = [(client, one["outcomes"]) for bucket in buckets for client, one in bucket["processes"].items()]
    return sum((Counter({client: sum(outcomes.values())}) for client, outcomes in asked), Counter())


def test_a_run_serves_the_page():
    """`dnstrail --web` serves the page beside its pipeline, whose findings and lookups it has."""
    with run_dir() as folder, started("--capture", "demo", "--stay", "--web", "0", "--run-dir", folder) as process:
        wait_until(lambda: text_of(folder / "web.link"), "the link")
        page = WebPage(process, folder)
        page.enter()
        wait_until(lambda: page.json("/api/get?key=shop.example")["ok"], "the capture")
        can = page.json("/api/session")["data"]
        assert (can["findings"], can["mutes"], can["history"]) == (True, True, False)
        wait_until(lambda: page.json("/api/findings")["data"], "the finding")
        wait_until(lambda: page.json("/api/health?since=0")["data"]["buckets"], "the questions")
    done = dnstrail("--capture", "demo", "--web", "0", "--dnscache", "none", "--run-dir", folder)
    assert (done.returncode, "--web" in done.stderr) == (2, True)


def test_a_run_whose_page_cannot_start_ends(service):
    """A run whose page has no port ends with 4, and names the worker."""
    with run_dir() as folder:
        done = dnstrail("--capture", "demo", "--web", str(service.page.port), "--run-dir", folder)
    assert (done.returncode, "the web worker ended with 4" in done.stderr) == (4, True), done.stderr


def test_a_link_leads_to_a_key(service):
    """`dnstrail open` prints a link that lets in, and leads to the key without the token."""
    link = dnstrail("open", "n3.example", "--run-dir", service.folder).stdout.strip()
    path = link.partition(f":{service.page.port}")[2]
    status, headers, _ = service.page.request("GET", path, cookie="")
    assert (status, headers["location"]) == (303, "/trail?key=n3.example")
    assert dnstrail("open", "--run-dir", service.history).returncode == 2
    assert dnstrail("open", "http://x/", "--run-dir", service.folder).returncode == 2


def test_a_page_without_history_states_it():
    """Without a history, and without a cache, the page runs, and its replies state what is missing."""
    with run_dir() as folder, web_page(folder, "--folder", "none") as page:
        page.enter()
        can = page.json("/api/session")["data"]
        assert not any(can[name] for name in ("history", "mutes", "findings", "fleet"))
        for path in ("/api/log", "/api/new", "/api/seen?key=a", "/query/a"):
            assert page.json(path)["error"] == "no_history"
        for path in ("/api/fleet/hosts", "/api/fleet/get?key=a"):
            assert page.json(path)["error"] == "no_fleet"
        assert page.json("/api/get?key=a")["error"] == "unavailable"
        assert page.json("/api/mutes")["error"] == "unavailable"
        assert page.json("/api/health")["data"]["buckets"] == []


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (("--listen", "0.0.0.0:0"), "others could read along"),
        (("--listen", "[::]:0"), "others could read along"),
        (("--listen", "name:1"), "is no address"),
        (("--listen", "70000"), "is no port"),
        (("--tls-cert", "cert.pem"), "go together"),
        (("--tls-cert", "/nothing", "--tls-key", "/nothing"), "--tls-cert"),
    ],
)
def test_a_wrong_place_is_refused(options, reason):
    """An address at which others could read along, or that is none, is refused."""
    with run_dir() as folder:
        done = dnstrail("web", "--run-dir", folder, *options)
    assert (done.returncode, reason in done.stderr) == (2, True), done.stderr


def test_an_address_that_is_in_use_is_named(service):
    """A second page at one address names it, and exits with 4."""
    with run_dir() as folder:
        done = dnstrail("web", "--run-dir", folder, "--listen", str(service.page.port))
    assert (done.returncode, f"127.0.0.1:{service.page.port}" in done.stderr) == (4, True)


def wait_for(find):
    """Return what a function finds, once it finds anything."""
    found: list = []
    wait_until(lambda: found.append(find()) or found[-1], "what is to be found", PATIENCE)
    return found[-1]
