"""The view Now: what it shows live and of the past, and what it exports."""

from __future__ import annotations

import csv
import io
import json
import re
import subprocess
import sys
import time
from collections import Counter
from contextlib import ExitStack
from pathlib import Path

from live.ebpf_source import cgroup, inside
from live.processes import wait_until

SLICE = "dnstrailpage.slice"
USER = 60_543  # no other user of this host has it
HOLD = "import socket, sys; one = socket.create_connection(('edge.cdn.example', 53)); sys.stdin.read()"
RESOLVE = """
import contextlib, socket
for number in range(1100):
    with contextlib.suppress(OSError):
        socket.getaddrinfo(f"n{number}.any.example", 1)
"""
UNFOLD = """() => {
    document.querySelectorAll('.body [aria-expanded="false"] .fold').forEach((one) => one.click());
}"""
NOTE_TIME = """name => {
    const look = () => document.body.innerText.includes(name) && (observer.disconnect(), window.appeared = Date.now());
    const observer = new MutationObserver(look);
    observer.observe(document.body, {subtree: true, childList: true, characterData: true});
}"""


def rows(page):
    """Return the texts of the rows that exist."""
    return [row.replace("\n", " ") for row in page.locator(".body .row").all_inner_texts()]


def saved(page, button):
    """Press a button that saves a file; return its text."""
    with page.expect_download() as download:
        page.get_by_role("button", name=button, exact=True).click()
    return Path(download.value.path()).read_text()


def test_a_resolved_name_appears_with_its_process(seen, watched):
    """A name that a process resolves stands in Now, live, below the process and its registered domain."""
    page = seen.open("/now?group=none")
    page.get_by_text("facts/s").wait_for()
    page.evaluate(NOTE_TIME, "fresh.any.example")
    watched.resolve("fresh.any.example")
    wait_until(lambda: page.evaluate("window.appeared"), "the name", 60)
    at = page.evaluate("window.appeared") / 1000
    wait_until(lambda: watched.log("--name", "fresh.any.example"), "the log")
    ended = watched.log("--name", "fresh.any.example")[0]["timestamp"] / 1e9
    sys.stdout.write(f"a name appears {at - ended:.2f} s after its answer\n")
    page.get_by_label("Group by").select_option("Process")
    page.get_by_label("Filter").fill("name:fresh.any.example")
    wait_until(lambda: len(rows(page)) == 2, "the filter", 60)
    process, domain = rows(page)
    assert "getent /usr/bin/getent" in process
    assert "any.example" in domain
    assert page.url == f"{watched.address}/now?filter=name%3Afresh.any.example"


def test_the_link_of_a_past_fact_opens_the_trail_of_its_time(seen, watched):
    """The link of a fact of the history to its trail has the time of the fact to the microsecond; it shows the path."""
    name = "linked.any.example"
    watched.resolve(name)
    wait_until(lambda: watched.log("--name", name, "--outcome", "answered"), "the log")
    page = seen.open(f"/now?since={watched.began - 5:.3f}&group=none&filter=name:{name}")
    page.locator(".body .row", has_text=name).first.click()
    page.get_by_role("link", name="Open the trail").click()
    page.wait_for_url("**/trail?*&at=*")
    page.locator("main .trail .paths li", has_text=name).first.wait_for()


def test_the_units_of_processes_are_groups(seen, watched):
    """Facts are grouped and filtered by unit: a name fits units of root alone, and one with a user those of a user."""
    manager = f"{SLICE}/user@{USER}.service"
    with ExitStack() as stack:
        paths = (SLICE, f"{SLICE}/shop.service", manager, f"{manager}/shop.service")
        made = {path: stack.enter_context(cgroup(path)) for path in paths}
        for path, name in ((paths[1], "root.any.example"), (paths[3], "user.any.example")):
            command = inside(made[path], "ip", "netns", "exec", watched.hosts.client, "getent", "ahostsv4", name)
            assert subprocess.run(command, stdout=subprocess.DEVNULL, check=False).returncode == 0
        wait_until(lambda: all(watched.log("--unit", one) for one in ("*shop.service", f"{USER}/*")), "the log")
    units = {"shop.service": "root.any.example", f"{USER}/shop.service": "user.any.example"}
    for since in ("", f"&since={watched.began - 5:.3f}"):
        for unit, name in units.items():
            page = seen.open(f"/now?group=unit&filter=unit:*{unit.removeprefix(str(USER))}{since}")
            wait_until(lambda: page.evaluate(UNFOLD) or any(name in row for row in rows(page)), name, 60)  # noqa: B023
            shown = [row for row in rows(page) if "shop.service" in row or "any.example" in row]
            assert unit in shown[0]
            assert not [row for row in shown for other in units.values() if other in row and other != name]
    assert {one["name"] for one in watched.log("--unit", f"{USER}/*")} == {"user.any.example"}
    assert page.get_by_label("Group by").input_value() == "unit"


def test_containers_of_users_are_none_of_root(seen, watched):
    """A user who gives a cgroup the id of a container of root has another one on the page and in the log."""
    identity, manager = "d4" * 32, f"{SLICE}/user@{USER}.service"
    containers = {identity[:12]: "rooted.any.example", f"{USER}/{identity[:12]}": "users.any.example"}
    with ExitStack() as stack:
        paths = (SLICE, f"{SLICE}/docker-{identity}.scope", manager, f"{manager}/libpod-{identity}")
        made = {path: stack.enter_context(cgroup(path)) for path in paths}
        for path, name in zip((paths[1], paths[3]), containers.values(), strict=True):
            command = inside(made[path], "ip", "netns", "exec", watched.hosts.client, "getent", "ahostsv4", name)
            assert subprocess.run(command, stdout=subprocess.DEVNULL, check=False).returncode == 0
        wait_until(lambda: {one["name"] for one in watched.log("--container", f"{USER}/*")}, "the log")
    for container, name in containers.items():
        page = seen.open(f"/now?group=container&filter=container:{container}")
        wait_until(lambda: page.evaluate(UNFOLD) or any(name in row for row in rows(page)), name, 60)  # noqa: B023
        shown = rows(page)
        assert container in shown[0].split(), shown
        assert not [row for row in shown for other in containers.values() if other in row and other != name]
        assert {one["name"] for one in watched.log("--container", container)} == {name}


def test_a_connection_shows_its_binding_and_its_rivals(seen, watched):
    """An open connection states how it was bound, and the other names of its address."""
    watched.resolve("www.shop.example")
    watched.resolve("news.example")
    client = watched.hosts.start_on_client(sys.executable, "-c", HOLD)
    try:
        page = seen.open("/now?group=address&filter=name:edge.cdn.example")
        row = page.locator(".body .row", has_text=f"{client.pid}:").filter(has_text="rival")
        wait_until(lambda: page.evaluate(UNFOLD) or row.count(), "the rivals", 60)
        row.first.wait_for()
        text = row.first.inner_text()
        assert "own thread" in text
        assert "news.example" in text or "www.shop.example" in text
        row.first.click()
        page.get_by_text("Why this name: paths and rivals").wait_for()
        page.locator(".side .paths .tag", has_text="likeliest").wait_for()
        page.locator(".side .paths .tag", has_text="rival").first.wait_for()
    finally:
        client.communicate(timeout=60)


def test_filter_and_export_equal_the_log(seen, watched):
    """The facts of a past time and a filter are those of `dnstrail log`, in an exported file, too."""
    for number in range(3):
        watched.resolve(f"no{number}.gone.example")
        watched.resolve(f"yes{number}.any.example")
    wait_until(lambda: len(watched.log("--name", "no?.gone.example", "--outcome", "nxdomain")) >= 3, "the log")
    until = time.time() + 1
    wait_until(lambda: time.time() > until + 1, "the end of the time")
    since, end = f"{watched.began - 5:.3f}", f"{until:.3f}"
    page = seen.open(
        f"/now?since={since}&until={end}&group=none&filter=process:getent+outcome:nxdomain+name:*.gone.example"
    )
    expected = watched.log(
        "--since", since, "--until", end, "--process", "getent", "--outcome", "nxdomain", "--name", "*.gone.example"
    )
    page.get_by_text(f"{len(expected)} facts").wait_for()
    assert len(expected) >= 3
    assert [json.loads(line) for line in saved(page, "JSON").splitlines()] == expected
    assert "--process getent" in page.locator(".command").inner_text()
    assert len(list(csv.DictReader(io.StringIO(saved(page, "CSV"))))) == len(expected)


def test_groups_count_what_the_log_contains(seen, watched):
    """The figures of the groups, as exported, are the counts over `dnstrail log` of the same time."""
    until = time.time()
    wait_until(lambda: time.time() > until + 2, "the end of the time")
    since, end = f"{watched.began - 5:.3f}", f"{until:.3f}"

    def logged():
        time_of_page = "--since", since, "--until", end
        return watched.log(*time_of_page), watched.log(*time_of_page, "--connections")

    page, before = seen.page, None
    while before != (now := logged()):  # a question without an answer is logged after 30 seconds
        before = now
        page = seen.open(f"/now?since={since}&until={end}&group=domain")
        page.get_by_text(" facts").first.wait_for()
    questions, connections = now
    page.get_by_text(f"{len(questions) + len(connections):,} facts".replace(",", "\u202f")).wait_for()
    groups = [json.loads(line) for line in saved(page, "JSON").splitlines()]
    found = Counter()
    for group in groups:
        found[group["name"], group["process"]] += group["lookups"]
    assert +found == Counter((one["name"], one.get("process_name") or one["src"]) for one in questions)
    assert sum(group["connections"] for group in groups) == len(connections)
    failed = [one for one in questions if one["outcome"] not in {"answered", "no_data"}]
    assert sum(group["failed"] for group in groups) == len(failed)


def test_a_list_of_more_than_a_thousand_rows_holds_few_elements(seen, watched):
    """Of 1,000 and more rows only those in view exist, and the last one is reached by its key."""
    since = f"{time.time():.3f}"
    watched.python(RESOLVE)
    wait_until(lambda: len(watched.log("--since", since, "--name", "n*.any.example")) >= 1100, "the log", 60)
    page = seen.open(f"/now?since={since}&group=none&filter=name:n*.any.example")
    grid = page.get_by_role("grid")
    wait_until(lambda: int(grid.get_attribute("aria-rowcount")) > 1000, "the rows", 60)
    assert page.locator(".body .row").count() < 80
    grid.focus()

    def is_last_active():
        page.keyboard.press("End")  # again while rows arrive
        last = int(grid.get_attribute("aria-rowcount"))
        return page.locator(f'[role=row][aria-rowindex="{last}"].active').count()

    wait_until(is_last_active, "the last row", 60)
    assert page.locator(".body .row").count() < 80


def test_a_past_time_with_too_many_facts_is_stated(seen, watched):
    """Of more facts than the page reads, the newest are shown with a notice; of as many as it reads, without one."""
    for number in range(4):
        watched.resolve(f"cut{number}.any.example")
    wait_until(lambda: len(watched.log("--name", "cut?.any.example")) >= 4, "the log")
    total = len(watched.log("--name", "cut?.any.example"))
    until = time.time()
    wait_until(lambda: time.time() > until + 1, "the end of the time")
    page = seen.page
    facts = Path(__file__).parents[3] / "services/web/dnstrail_web/static/js/now/facts.js"
    for most in (total - 1, total):
        module = facts.read_text().replace("MOST_PAST = 50_000", f"MOST_PAST = {most}")
        page.route(
            "**/now/facts.js",
            lambda route, _, module=module: route.fulfill(body=module, content_type="text/javascript"),
        )
        seen.open(f"/now?since={watched.began - 5:.3f}&until={until:.3f}&group=none&filter=name:cut?.any.example")
        page.get_by_text(re.compile(f"^{total} facts$")).wait_for()
        assert page.locator(".notice", has_text="Not all questions").count() == (most < total)
        assert page.locator(".notice", has_text="Not all connections").count() == 0


def test_names_of_every_object_are_no_parameters(seen):
    """A group, a time and an outcome named as what every object has are unknown, as any other text."""
    page = seen.open("/now?group=toString&filter=outcome:constructor")
    assert page.get_by_label("Group by").input_value() == "process"
    page.get_by_text("not understood: outcome:constructor").wait_for()
    page = seen.open("/new?group=constructor")
    page.locator(".body .row a").first.wait_for()
    assert page.locator(".body .row .fold button").count() == 0
