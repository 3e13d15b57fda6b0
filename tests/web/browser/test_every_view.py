"""Every view: accessibility, the keyboard, narrow pages, links, and hostile text, which is never markup."""

from __future__ import annotations

import json
import time

import pytest
from axe_playwright_python.sync_playwright import Axe

from live.namespaces import SERVER
from live.processes import wait_until

VIEWS = [
    "/now",
    "/now?group=none",
    "/trail?key=www.shop.example",
    "/new",
    "/findings",
    "/health",
    "/health?by=processes",
]
HOSTILE = """
import ctypes, socket, struct, sys
libc = ctypes.CDLL(None)
TAGS = [
    '<img src=x onerror=hacked()>', '"><svg onload=hacked()>', "'-hacked()-'", '<script>hacked()</script>',
    '{{hacked()}}', '\\u202ehacked', 'a\\x00b\\x1b[2J',
]
server = ('10.99.0.3', 53)
for number in range(int(sys.argv[1])):
    tag = TAGS[number % len(TAGS)]
    libc.prctl(15, tag.encode('utf-8')[:10] + b'%d' % number, 0, 0, 0)
    labels = [tag.encode('utf-8')[:50] + b'%d' % number, b'hostile', b'example']
    name = b''.join(bytes([len(label)]) + label for label in labels) + b'\\0'
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
        one.connect(server)
        one.settimeout(0.2)
        one.send(struct.pack('>6H', number, 256, 1, 0, 0, 0) + name + struct.pack('>2H', 1, 1))
        try:
            one.recv(4096)
        except OSError:
            pass
    if number % 10 == 0:
        with socket.socket() as web:
            web.connect(('10.99.0.1', 80))
            host = tag.encode('utf-8').replace(b'\\0', b'') + b'%d.example' % number
            web.send(b'GET / HTTP/1.1\\r\\nHost: ' + host + b'\\r\\n\\r\\n')
"""


@pytest.mark.parametrize("path", VIEWS)
def test_axe_finds_no_violation(seen, watched, path):
    """axe-core finds nothing on a wide light page, and nothing on a narrow dark one."""
    watched.resolve("www.shop.example")
    page = seen.page
    for width, scheme in ((1280, "light"), (400, "dark")):
        page.emulate_media(color_scheme=scheme)
        page.set_viewport_size({"width": width, "height": 800})
        seen.open(path)
        page.locator("[role=row], .drawing .node").first.wait_for()
        found = Axe().run(page)
        assert [(one["id"], [node["html"] for node in one["nodes"]]) for one in found.response["violations"]] == []
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), f"{path}: wider than {width} pixels"


def test_the_keyboard_reaches_everything(seen, watched):
    """By keys alone: past the navigation to a row, its details, and the trail of its name."""
    watched.resolve("www.shop.example")
    page = seen.open("/now?group=domain&filter=name:www.shop.example")
    page.locator(".body .row").first.wait_for()
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to the content"
    page.keyboard.press("Enter")
    focus_by_tab(page, "document.activeElement.getAttribute('role') === 'treegrid'")
    for key in ("ArrowDown", "ArrowRight", "ArrowDown", "Enter"):
        page.keyboard.press(key)
    page.get_by_role("complementary", name="Details").wait_for()
    focus_by_tab(page, "document.activeElement.textContent === 'Open the trail'")
    page.keyboard.press("Enter")
    page.wait_for_url("**/trail?key=*")
    page.locator(".drawing .node").first.wait_for()
    focus_by_tab(page, "document.activeElement.classList.contains('node')")
    page.keyboard.press("Enter")
    page.wait_for_url("**/trail?key=*")


def test_a_row_of_new_leads_to_its_trail_by_keys(seen, watched):
    """Enter opens the trail of the first name of a domain, and folds a group."""
    watched.resolve("www.shop.example")
    page = seen.open("/new?kind=domain&group=program&filter=shop.example")  # other names of this host have ended
    page.locator(".body .row a").first.wait_for()
    page.get_by_role("treegrid").focus()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    page.locator('.body .row.active[aria-expanded="false"]').wait_for()
    page.keyboard.press("Enter")
    page.locator('.body .row.active[aria-expanded="true"]').wait_for()
    page.keyboard.press("ArrowDown")
    name = page.locator(".body .row.active a").inner_text()
    page.keyboard.press("Enter")
    page.wait_for_url(f"**/trail?key=*{name}&at=*")
    page.locator(".drawing .node.key").wait_for()


def test_new_lists_servers(seen, watched):
    """A server stands in New with the program that connected to it first, as `dnstrail new` states it."""
    watched.python(f"import socket; socket.create_connection(('{SERVER}', 80)).close()")

    def stated():
        lines = watched.command("new", "--json", "--folder", str(watched.history)).splitlines()
        return [one for one in map(json.loads, lines) if (one["kind"], one["name"]) == ("server", SERVER)]

    wait_until(stated, "the history")
    [server] = stated()
    page = seen.open("/new?kind=server")
    row = page.locator(".body .row").filter(has=page.get_by_text(SERVER, exact=True))
    row.filter(has_text=server["program"]).wait_for()
    assert row.locator("a").get_attribute("href") == f"/trail?key={SERVER}"


def focus_by_tab(page, condition):
    """Press Tab until something has the focus."""
    for _ in range(60):
        if page.evaluate(condition):
            return
        page.keyboard.press("Tab")
    raise AssertionError(f"no Tab reaches {condition}")


def test_a_link_shows_the_same_again(seen, watched):
    """The address of a page names its view, group, filter and time: another page with it shows the same."""
    watched.resolve("www.shop.example")
    page = seen.open("/now")
    page.get_by_label("Group by").select_option("Domain")
    page.get_by_label("Filter").fill("www.shop")
    page.wait_for_url("**/now?group=domain&filter=www.shop")
    seen.open(page.url.removeprefix(watched.address))
    assert page.get_by_label("Group by").input_value() == "domain"
    assert page.get_by_label("Filter").input_value() == "www.shop"
    wait_until(lambda: page.locator(".body .row", has_text="shop.example").count(), "the row", 60)
    page.go_back()
    page.get_by_role("link", name="Health").click()
    page.wait_for_url("**/health")


def test_no_text_of_a_stranger_becomes_markup(seen, watched):
    """1,000 hostile names, process names and server names are shown as text in each view, and none runs."""
    since = time.time() - 1
    watched.python(HOSTILE, "1000")
    wait_until(lambda: len(watched.log("--since", f"{since:.3f}", "--name", "*.hostile.example")) >= 1000, "the log")
    asked = next(
        one for one in watched.log("--since", f"{since:.3f}") if "img" in one["name"] and one["outcome"] == "answered"
    )
    quoted = json.dumps(asked["name"])
    for path in (
        f"/now?since={since:.3f}&group=none",
        f"/now?since={since:.3f}",
        "/new",
        "/findings",
        "/health?by=processes",
    ):
        page = seen.open(path)
        page.locator(".body .row").first.wait_for()
        read = page.evaluate(SCROLL_THROUGH)
        if "group=none" in path:
            assert asked["name"] in read, quoted
            assert "onerror" in read
    seen.open(f"/trail?at={asked['timestamp'] / 1e9 + 0.2:.3f}")
    page.get_by_label("Name or address").fill(asked["name"])
    page.keyboard.press("Enter")
    page.locator(".drawing .node.key").wait_for()
    assert page.locator("#app img, #app script, #app iframe, .drawing svg svg").count() == 0
    assert page.evaluate("typeof window.hacked") == "undefined"
    assert "\u202e" not in page.inner_text("body")


SCROLL_THROUGH = """async () => {
    for (let turn = 0; turn < 40; turn += 1) {
        const folded = document.querySelectorAll('.body [aria-expanded="false"] .fold');
        if (!folded.length) break;
        folded.forEach((one) => one.click());
        await new Promise(requestAnimationFrame);
    }
    const grid = document.querySelector('.grid');
    let read = '';
    for (let top = 0; ; top += grid.clientHeight - 60) {
        grid.scrollTop = top;
        await new Promise((next) => setTimeout(next, 30));
        read += grid.innerText;
        const markup = document.querySelector('.grid img, .grid script, .grid iframe, .grid svg');
        if (markup) throw new Error('markup of a stranger');
        if (top >= grid.scrollHeight - grid.clientHeight) return read;
    }
}"""
