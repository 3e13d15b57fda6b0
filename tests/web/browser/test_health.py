"""The view Health: a dip that is a loss looks like one."""

from __future__ import annotations

from dnstrail.bus.ipc import lookups_address
from live.workers import asker


def test_a_loss_is_hatched_and_stated(seen, watched):
    """Where a worker reports lost events, the chart is hatched and a notice counts them; the resolver has its row."""
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
    page.locator(".body .row", has_text="getent").wait_for()
