"""The view Health: a dip that is a loss looks like one, and its command is safe to copy."""

from __future__ import annotations

import json
import subprocess
from urllib.parse import urlencode

import pytest

from dnstrail.bus.ipc import lookups_address
from live.workers import asker

DRAWN = "new Promise((next) => requestAnimationFrame(() => requestAnimationFrame(next)))"


def test_a_loss_is_hatched_and_stated(seen, watched):
    """Where a worker reports lost events, the chart is hatched and a notice counts them; the resolver has its row."""
    for _ in range(8):  # of hundreds of processes in a minute, those with the most questions have a row
        watched.resolve("www.shop.example")
    page = seen.open("/health")
    page.locator(".body .row", has_text="10.99.0.3").wait_for()
    page.locator(".chart .part.answered").first.wait_for()
    with asker(lookups_address(watched.run.folder)) as client:
        client.ask("lost", worker="a slow one", lost={"net_packet_dns": 1234})
    page.locator(".notice", has_text="fewer questions were seen than asked").wait_for()
    assert page.locator(".chart rect.lost").count() >= 1
    page.locator(".body .row", has_text="10.99.0.3").click()
    page.wait_for_url("**/health?key=10.99.0.3")
    page.get_by_role("button", name="Processes").click()
    rows = page.locator(".body .row")
    rows.first.wait_for()
    page.get_by_role("grid").focus()
    for _ in range(200):  # other tests run hundreds of processes, and only the rows in view exist
        if rows.filter(has_text="getent").count():
            break
        page.keyboard.press("PageDown")
        page.evaluate(f"() => {DRAWN}")
    rows.filter(has_text="getent").wait_for()


@pytest.mark.parametrize("key", ["x'$(id)'", "\\(input)", 'a" or "b', "192.0.2.1\n| sh\n", "a\u202eb", "\x1b[201~;id"])
def test_a_link_places_no_command_in_the_command(seen, key):
    """A shell passes the key of a link to jq as one text, and control characters are shown and copied as escapes."""
    page = seen.open(f"/health?{urlencode({'key': key})}")
    shown = page.locator(".command code").inner_text()
    page.evaluate("navigator.clipboard.writeText = async (text) => { window.copied = text; }")
    page.get_by_role("button", name="Copy the command").click()
    assert page.evaluate("window.copied") == shown
    assert shown.isprintable()
    log, quoted = shown.split(" | jq ", 1)
    assert log == "dnstrail log --since -1h --json"
    program = subprocess.run(["sh", "-c", f"printf %s {quoted}"], capture_output=True, text=True, check=True).stdout
    text = json.dumps(key, ensure_ascii=False).replace("\u202e", "\\u{202e}")
    assert program == f"select((.resolver // .dst) == {text})"


@pytest.mark.parametrize("options", [{}, {"key": "getent", "by": "processes"}, {"key": "192.0.2.1"}])
def test_the_command_has_both_ends_of_the_time(seen, options):
    """The command below a time between two others begins and ends with it."""
    since, until = "2026-11-01T12:00:00Z", "2026-11-01T13:00:00Z"
    page = seen.open(f"/health?{urlencode({'since': since, 'until': until, **options})}")
    assert page.locator(".command code").inner_text().startswith(f"dnstrail log --since {since} --until {until} --")


def test_the_command_of_a_client_selects_questions_without_a_process(seen, watched):
    """The address of a client stands for its questions of no known process, and a process with a colon for itself."""
    entry = watched.log("--process", "getent")[0]
    page = seen.open(f"/health?{urlencode({'by': 'processes', 'key': entry['src']})}")
    log, program = page.locator(".command code").inner_text().split(" | ")
    assert log == "dnstrail log --since -1h --json"
    unknown = entry | {"process_name": ""}
    entries = "\n".join(map(json.dumps, (entry, unknown, unknown | {"src": "192.0.2.1"})))
    found = subprocess.run(["sh", "-c", program], input=entries, capture_output=True, text=True, check=True).stdout
    assert json.loads(found) == unknown
    page = seen.open("/health?by=processes&key=nginx:worker")
    assert page.locator(".command code").inner_text() == "dnstrail log --since -1h --process nginx:worker"


def test_the_sum_of_others_has_no_command(seen):
    """No entry of the log is that of "(others)"."""
    page = seen.open("/health?key=(others)")
    page.locator(".legend").wait_for()
    assert page.locator(".command").count() == 0


def test_a_part_of_the_history_is_stated(seen):
    """A reply that the server has cut short is shown with a notice."""
    page = seen.page

    def cut(route):
        reply = route.fetch()
        route.fulfill(response=reply, json=reply.json() | {"complete": False})

    seen.open("/health")
    page.locator(".body .row").first.wait_for()
    assert page.get_by_text("The history was read in part").count() == 0
    page.route("**/api/health*", cut)
    seen.open("/health")
    page.get_by_text("The history was read in part").wait_for()
    page.unroute_all(behavior="ignoreErrors")
