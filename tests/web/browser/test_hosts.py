"""The view Hosts, and the hosts of the fleet in the view Trail, over a store with hostile hosts."""

from __future__ import annotations

import time
from contextlib import contextmanager
from types import SimpleNamespace

import pytest
from axe_playwright_python.sync_playwright import Axe

from builders.fleet import entry, row
from dnstrail.bus.ipc import fleet_address, lookups_address
from live.fleet_store import answering_store
from live.namespaces import SENDER
from live.processes import run_dir, wait_until
from live.web_page import web_page

HOSTILE = ("<img src=x onerror=hacked()>", "\u202ehacked\x00\x1b[2J", '"><svg onload=hacked()>', "x" * 200)
NAME = "www.shop.example"


@pytest.fixture(scope="module")
def fleet(watched, context, tmp_path_factory):
    """Run a page that asks the cache of the pipeline and a store, and sign in."""
    user = watched.run.folder.stat()
    with run_dir() as run:
        options = ("--cache", lookups_address(watched.run.folder), "--user", f"{user.st_uid}:{user.st_gid}")
        given = ("--folder", watched.history, "--mutes", run / "web.mutes", "--store", fleet_address(run))
        with (
            web_page(run, *options, *given) as served,
            answering_store(tmp_path_factory.mktemp("store"), run) as store,
        ):
            fill(store)
            page = context.new_page()
            page.goto(served.link)
            page.close()
            yield SimpleNamespace(store=store, address=f"http://{served.host}")


def fill(store):
    """Write what eight hosts learned: one is behind, the clock of one is an hour ahead, and one is silent for long."""
    now = int(time.time())
    later = now + 3600  # no host falls silent while the tests run
    known = row(NAME, SENDER, at=now - 60)
    store.write(entry("web1", known, row("db.example", "10.0.0.5", at=now), sent=later))
    connected = row(NAME, "10.0.0.7", at=now, count=7, used=now + 5)
    store.write(entry("web2", connected, sent=later, behind=3, dropped=2), form=5)
    store.note_lag("web2", 12, 4)
    store.write(entry("lab", row("other.example", "10.0.0.5", at=now), sent=later + 3600), late=-3_600_000)
    store.write(entry("gone", sent=now - 9 * 86_400))
    for host in HOSTILE:
        store.write(entry(host, known, sent=later, program=host))


@pytest.fixture
def of_fleet(seen, fleet, watched):
    """Return a page of the fleet that must not complain; the cache of the host knows a name, too."""
    watched.resolve(NAME)
    seen.address = fleet.address
    seen.tolerated = is_late
    return seen


def is_late(text):
    """Return whether a complaint is that the store did not answer in time: on a busy host the page asks again."""
    return "503" in text and "/api/fleet/" in text


def line(page, host):
    """Return the row of a host."""
    return page.locator(".body .row").filter(has=page.get_by_text(host, exact=True))


@contextmanager
def without_store(seen, fleet):
    """Stop the store for a block, after which the page has found it again."""
    fleet.store.stop()
    try:
        yield
    finally:
        fleet.store.start()
    answers = "fetch('/api/fleet/hosts').then((reply) => reply.ok)"
    wait_until(lambda: seen.page.evaluate(answers), "the store")


def test_each_host_has_its_state_in_words(of_fleet):
    """Who is behind is so in words, with lag, spool, losses and clock; the column that is pressed sorts; keys open."""
    page = of_fleet.open("/now")
    page.get_by_role("link", name="Hosts").click()
    page.wait_for_url("**/hosts")
    page.locator(".notes", has_text=f"{4 + len(HOSTILE)} hosts, 1 behind, ").wait_for()
    assert line(page, "web2").inner_text().split("\n") == ["web2", "behind", "now", "12", "3", "11"]
    assert "\u221260\u00a0min" in line(page, "lab").inner_text()
    assert line(page, "gone").inner_text().split("\n")[1] == "removed"
    assert page.locator(".body .row").first.inner_text().startswith("web2\n")  # by state
    page.get_by_role("columnheader", name="Host").get_by_role("button").click()
    page.locator(".body .row >> nth=0").get_by_text('"><svg').wait_for()
    page.get_by_label("Filter").fill("web2")
    page.locator('.grid[aria-rowcount="2"]').wait_for()
    page.get_by_role("grid", name="Hosts").focus()
    page.keyboard.press("ArrowDown")
    page.locator(".body .row.active").wait_for()
    page.keyboard.press("Enter")
    details = page.get_by_role("complementary", name="Host").inner_text()
    for fact in ("12 entries wait", "3 segments", "Lost: dropped\n2", "Lost: trimmed\n4", "Lost: refused\nform 5"):
        assert fact in details
    assert "dnstrail fleet hosts" in page.locator(".command").inner_text()


def test_a_store_that_is_away_is_stated_and_found_again(of_fleet, fleet):
    """The view is live: without the store it keeps its rows and states so, and then it has what came meanwhile."""
    page = of_fleet.open("/hosts")
    line(page, "web1").wait_for()
    with without_store(of_fleet, fleet):
        page.get_by_role("alert").filter(has_text="no store of the fleet answers: the rows are of").wait_for()
        assert line(page, "web1").count() == 1
        fleet.store.note_lag("web1", 0, 77)
    line(page, "web1").get_by_text("77", exact=True).wait_for()
    page.get_by_role("alert").wait_for(state="detached")


def test_a_trail_has_the_hosts_that_know_its_key(of_fleet):
    """The list has times, askers and connections; the graph leads from hosts to the question, never to an address."""
    page = of_fleet.open(f"/trail?key={NAME}")
    known = page.get_by_role("region", name="Hosts of the fleet")
    web2 = known.get_by_role("listitem").filter(has=page.get_by_role("link", name="web2", exact=True))
    web2.filter(has_text="asked by /usr/bin/curl in web").filter(has_text="7\u00d7").wait_for()
    assert ", last connection " in web2.inner_text()
    assert known.get_by_text(", last connection ").count() == 1
    known.get_by_text("Split horizon").wait_for()
    known.get_by_text("Behind, and may know more: web2.").wait_for()
    assert f"dnstrail fleet get {NAME}" in known.inner_text()
    page.locator(".drawing .node.host", has_text="web2").wait_for()
    assert page.locator(".drawing .node.host").count() == 2 + len(HOSTILE)
    assert page.locator("text.column", has_text="Asked by, known on").count() == 1
    assert page.locator(".drawing .node", has_text="10.0.0.7").count() == 0
    of_fleet.tolerated = lambda text: "404" in text or is_late(text)  # the cache of this host knows neither
    page = of_fleet.open("/trail?key=10.0.0.5")
    known.get_by_text("A private address: another machine in each network.").wait_for()
    assert known.get_by_role("listitem").count() == 2
    page = of_fleet.open("/trail?key=nobody.example")
    known.get_by_text("No host knows it. Some hosts are behind: see Hosts.").wait_for()


def test_a_trail_needs_no_store(of_fleet, fleet):
    """While the store is away, Trail states so, and shows what the cache of the host knows."""
    with without_store(of_fleet, fleet):
        page = of_fleet.open(f"/trail?key={NAME}")
        page.get_by_role("region", name="Hosts of the fleet").get_by_text("no store of the fleet answers").wait_for()
        page.locator(".drawing .node.key").wait_for()


@pytest.mark.parametrize("paths", [("/hosts?host=web2", "/hosts"), (f"/trail?key={NAME}",) * 2])
def test_hosts_are_for_everybody_and_names_are_text(of_fleet, paths):
    """axe-core finds nothing, 400 pixels suffice, and no name of a host becomes markup or hides what it is."""
    page = of_fleet.page
    for path, width, scheme in zip(paths, (1280, 400), ("light", "dark"), strict=True):
        page.emulate_media(color_scheme=scheme)
        page.set_viewport_size({"width": width, "height": 800})
        of_fleet.open(path)
        page.locator(".body .row, .fleet li").nth(3).wait_for()
        if "trail" in path:
            page.locator(".drawing .node.host").nth(3).wait_for()
        found = Axe().run(page)
        assert [(one["id"], [node["html"] for node in one["nodes"]]) for one in found.response["violations"]] == []
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), f"{path}: wider than {width} pixels"
        text = page.inner_text("body")
        assert "\\u{202e}hacked\\u{0}\\u{1b}" in text
        assert "<img src=x onerror=hacked()>" in text
        assert "\u202e" not in text
        assert page.locator("#app img, #app script, #app iframe, .grid svg, .fleet svg, .drawing svg svg").count() == 0
    assert page.evaluate("typeof window.hacked") == "undefined"


def test_without_a_fleet_there_is_no_view(seen):
    """The menu has no Hosts, and its address states how to have it."""
    page = seen.open("/hosts")
    page.get_by_role("status").filter(has_text="This page knows no fleet").wait_for()
    assert page.get_by_role("navigation").get_by_role("link").count() == 5
