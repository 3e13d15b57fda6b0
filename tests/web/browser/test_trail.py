"""The view Trail: its graph, and the way through time."""

from __future__ import annotations

import re
import time

import pytest

from live.namespaces import SENDER, SERVER
from live.processes import wait_until

CHAIN = ["getent", "www.shop.example", "shop.cdn.example", "edge.cdn.example", SENDER]
PLACES = """() => [...document.querySelectorAll('.drawing .node')].map(node => ({
    text: node.querySelector('text').textContent, x: new DOMMatrix(getComputedStyle(node).transform).e}))"""

ASK_HUB = """
import socket, sys
for number in range(int(sys.argv[1])):
    socket.getaddrinfo(f"hub{number}.crowd.example", 1, socket.AF_INET)
"""


def nodes(page):
    """Return the nodes of the graph by their texts, with their places from the left."""
    page.locator(".drawing .node").first.wait_for()
    return {node["text"]: node["x"] for node in page.evaluate(PLACES)}


def test_the_graph_shows_process_question_aliases_and_address(seen, watched):
    """The graph of a CDN name has a column for who asked, for the question, for each alias and for the address."""
    watched.resolve("www.shop.example")
    for key in ("www.shop.example", "edge.cdn.example", SENDER):
        page = seen.open(f"/trail?key={key}")
        found = nodes(page)
        places = [found[text] for text in CHAIN]
        assert places == sorted(places), found
        assert len(set(places)) == len(CHAIN)
        assert page.locator(".drawing .node.key text").first.text_content() == key
    assert page.locator(".lives [role=row]", has_text="www.shop.example CNAME shop.cdn.example").count() == 1


def test_an_answer_appears_in_the_graph_at_once(seen, watched):
    """A further question that leads to a shown address joins the graph, without a reload."""
    watched.resolve("www.shop.example")
    page = seen.open("/trail?key=edge.cdn.example")
    assert "news.example" not in nodes(page) or watched.log("--name", "news.example")
    watched.resolve("news.example")
    page.locator(".drawing .node", has_text="news.example").wait_for()
    page.locator(".paths li", has_text="news.example").first.wait_for()


def test_a_past_time_comes_from_the_image(seen, watched):
    """The slider shows what the image held at an earlier time, and the address of the page keeps that time."""
    before = time.time()
    wait_until(lambda: time.time() > before + 1.5, "a time without the name")
    watched.resolve("later.any.example")
    after = time.time()
    wait_until(lambda: time.time() > after + 0.5, "a time with the name")
    page = seen.open(f"/trail?key=later.any.example&at={after + 0.2:.3f}")
    page.locator(".drawing .node", has_text="later.any.example").wait_for()
    assert "from the image" in page.locator(".summary").inner_text()
    seen.tolerated = lambda text: "404" in text and "later.any.example" in text  # the browser reports each 404
    page.goto(f"{watched.address}/trail?key=later.any.example&at={before:.3f}")
    page.get_by_text("Not found: no answer named it").wait_for()


def test_a_past_time_comes_from_the_history(seen, watched):
    """What the image has forgotten is read from the history, and a time before it is stated as not known."""
    name = "short.any.example"
    at = watched.log("--name", name, "--outcome", "answered")[0]["timestamp"] / 1e9 + 0.3
    seen.tolerated = lambda text: "404" in text and name in text
    page = seen.open(f"/trail?key={name}&at={at:.3f}")

    def is_from_history():
        page.reload()
        page.locator(".summary").or_(page.locator(".notice")).first.wait_for()
        return "from the history" in (page.locator(".summary").inner_text() if page.locator(".summary").count() else "")

    wait_until(is_from_history, "the image forgets")
    assert {"getent", name, SERVER} <= nodes(page).keys()
    page.goto(f"{watched.address}/trail?key={name}&at={at - 86400:.3f}")
    page.get_by_text("Not known: the history ends before this time").wait_for()


@pytest.mark.parametrize("text", ["yesterdy", "1" * 30])
@pytest.mark.parametrize(
    "view", ["trail?key=www.shop.example&at=", "now?since=", "now?since=-1h&until=", "health?since=", "new?since="]
)
def test_a_text_that_is_no_time_is_stated(seen, watched, view, text):
    """A view whose address has a text that is no time states it, asks the server for nothing, and has no command."""
    watched.resolve("www.shop.example")
    asked = []
    seen.page.on("request", lambda request: asked.append(request.url))
    page = seen.open(f"/{view}{text}")
    page.locator(".notice", has_text=f'"{text}" is no past time').wait_for()
    page.wait_for_timeout(300)  # a view asks as soon as it is drawn
    assert not [url for url in asked if re.search(r"/api/(trail|get|health|new|fleet|log\?.*(since|until)=)", url)]
    assert page.locator(".command").count() == 0


def test_a_time_as_on_the_command_line_is_a_past_one(seen, watched):
    """The trail at a length of several units before now is one of that time, not of the present."""
    watched.resolve("www.shop.example")
    seen.tolerated = lambda text: "404" in text and "www.shop.example" in text
    page = seen.open("/trail?key=www.shop.example&at=-2h30m")
    page.get_by_text("Not known: the history ends before this time").wait_for()


def test_the_slider_moves_by_keys(seen, watched):
    """An arrow key moves the slider into the past, End returns to now, and the command states the time."""
    watched.resolve("www.shop.example")
    page = seen.open("/trail?key=www.shop.example")
    nodes(page)
    slider = page.get_by_role("slider", name="Time")
    slider.focus()
    page.keyboard.press("ArrowLeft")
    page.wait_for_url("**&at=*")
    page.locator(".summary", has_text="from the image").wait_for()
    assert "--at " in page.locator(".command").inner_text()
    assert slider.get_attribute("aria-valuetext") != "now, live"
    slider.focus()
    page.keyboard.press("End")
    page.wait_for_url("**/trail?key=www.shop.example")
    page.locator(".summary", has_text="now").wait_for()


def test_a_hub_is_folded(seen, watched):
    """An address of many names is drawn by 200 nodes at most; the others are counted in a node, and can be found."""
    watched.resolve("www.crowd.example")
    watched.python(ASK_HUB, "1200")
    page = seen.open(f"/trail?key={SERVER}")
    page.locator(".drawing .node.fold", has_text="more names").wait_for()
    assert page.locator(".drawing .node").count() <= 200
    page.get_by_label("Find", exact=True).fill("hub1199.crowd")
    page.get_by_role("link", name="hub1199.crowd.example").first.wait_for()
    found = nodes(seen.open("/trail?key=www.crowd.example"))
    places = [found[text] for text in ("getent", "www.crowd.example", "edge.crowd.example", SERVER)]
    assert places == sorted({*places}), found
