"""The view Findings: the feed, and the mutes that signatures obey."""

from __future__ import annotations

import re

from live.processes import wait_until

WATCHED = "watched.any.example"


def about(watched):
    """Return the findings about the watched name that the run printed."""
    return [one for one in watched.run.named("WATCHED_NAME") if WATCHED in str(one["args"])]


def test_a_finding_is_shown_with_its_trail_and_can_be_muted(seen, watched):
    """A finding arrives live with its trail. Once it is muted, the signatures report no other one like it."""
    page = seen.open(f"/findings?filter={WATCHED}")
    watched.resolve(WATCHED)
    row = page.locator(".body .row", has_text="WATCHED_NAME").first
    row.click()
    panel = page.get_by_role("complementary", name="Finding")
    panel.get_by_text("Trail of").wait_for()
    panel.locator(".paths li", has_text=WATCHED).first.wait_for()
    choice = panel.get_by_label("Only with")
    assert WATCHED in choice.locator("option:checked").inner_text()
    if '"argument"' not in page.evaluate("fetch('/api/openapi.json').then((reply) => reply.text())"):
        choice.select_option("any arguments")
    panel.get_by_label("For", exact=False).last.select_option("1 hour")
    panel.get_by_label("Note").fill("<b>known</b>")
    panel.get_by_role("button", name="Mute").click()
    mutes = page.get_by_role("region", name="Mutes")
    mutes.get_by_text("<b>known</b>").wait_for()
    page.get_by_label(re.compile("Show muted")).check()
    page.locator(".body .row", has_text="muted").first.wait_for()

    before = len(about(watched))
    for _ in range(2):  # the second one ends after the first, which a signature may hold back
        watched.hosts.on_client("getent", "hosts", WATCHED)
    watched.resolve("after.any.example")
    wait_until(lambda: watched.log("--name", "after.any.example"), "the log")
    assert len(about(watched)) == before

    mutes.get_by_role("button", name=re.compile("End the mute of WATCHED_NAME")).click()
    mutes.wait_for(state="detached")


def test_the_link_of_a_finding_opens_the_trail_of_its_time(seen, watched):
    """The link of a finding to its trail has the time of its event to the microsecond, and shows the path."""
    name = "linked.hostile.example"
    page = seen.open(f"/findings?filter={name}")
    watched.resolve(name)
    page.locator(".body .row", has_text="WATCHED_NAME").first.click()
    page.get_by_role("link", name="Open the trail").click()
    page.wait_for_url("**/trail?*&at=*")
    page.locator("main .trail .paths li", has_text=name).first.wait_for()


def test_a_finding_before_the_feed_is_open_is_not_missed(seen, watched):
    """A finding that arrives after the page has read the others, and before its feed is open, is shown."""
    name = "early.hostile.example"
    held = []
    page = seen.page
    page.route("**/api/events?*", lambda route: held.append(route))  # noqa: PLW0108 - a built-in method is refused
    with page.expect_response("**/api/mutes"):
        seen.open(f"/findings?filter={name}")
    watched.resolve(name)
    known = "fetch('/api/findings').then((reply) => reply.text())"
    wait_until(lambda: name in page.evaluate(known), "the finding", 60)
    assert page.locator(".body .row", has_text="WATCHED_NAME").count() == 0
    held.pop().continue_()
    page.locator(".body .row", has_text="WATCHED_NAME").first.wait_for()
