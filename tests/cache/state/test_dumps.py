"""Dumps: pages of the image, each short, of a bounded number of dumps."""

from __future__ import annotations

import pytest

from builders.talk import answers
from dnstrail.image import Bounds, Circumstances, Image
from dnstrail_cache.state.dumps import AT_ONCE, MOST_DUMPS, PAGE, Dumps
from live.workers import FakeClock, asker, cache, probe, response, seen, short_folder

COUNT = PAGE * 2 + 10


@pytest.fixture
def image():
    image = Image(Bounds(size=COUNT))
    for _, payload in answers(f"{number}.example" for number in range(COUNT)):
        image.feed(0, payload, Circumstances(live=True))
    return image


def pages(dumps, image, cursor=""):
    """Yield all pages of a dump, from a cursor on."""
    while True:
        page = dumps.page(image, cursor, 0, FakeClock().monotonic)
        yield page
        cursor = page.next
        if not cursor:
            return


def test_pages_contain_each_root_once(image):
    """All pages together contain each root once, and no page more than 256."""
    found = [[record.question for record in page.records] for page in pages(Dumps(), image)]
    assert [len(page) for page in found] == [PAGE, PAGE, 10]
    assert len({question for page in found for question in page}) == COUNT


def test_a_page_ends_in_time(image):
    """A page that takes too long is cut, and contains at least one root."""
    clock = FakeClock()

    def slow():
        clock.advance(AT_ONCE)
        return clock.monotonic()

    dumps = Dumps()
    page = dumps.page(image, "", 0, slow)
    assert len(page.records) == 1
    assert sum(len(page.records) for page in pages(dumps, image, page.next)) == COUNT - 1


def test_a_root_that_was_evicted_is_left_out(image):
    """A dump goes on while the image changes."""
    dumps = Dumps()
    first = dumps.page(image, "", 0, FakeClock().monotonic)
    new, payload = next(iter(answers(["new.example"])))
    image.feed(1, payload, Circumstances(live=True))
    rest = [record.question for page in pages(dumps, image, first.next) for record in page.records]
    assert len(first.records) + len(rest) in (COUNT - 1, COUNT)
    assert new not in rest


def test_dumps_are_bounded(image):
    """A further dump ends the one that was asked for longest ago; an ended dump holds nothing."""
    dumps = Dumps()
    cursors = [dumps.page(image, "", 0, FakeClock().monotonic).next for _ in range(MOST_DUMPS + 1)]
    assert len(dumps._roots) == MOST_DUMPS
    assert dumps.page(image, cursors[0], 0, FakeClock().monotonic) is None
    for cursor in cursors[1:]:
        assert list(pages(dumps, image, cursor))
    assert dumps._roots == {}


@pytest.mark.parametrize("cursor", ["x", "x 5", "x -1", " ", "x \u0665", "0"])
def test_a_cursor_of_no_dump_is_refused(image, cursor):
    """A cursor that no page contained is refused."""
    assert Dumps().page(image, cursor, 0, FakeClock().monotonic) is None


def test_a_cursor_beyond_the_end_is_the_end(image):
    """A place beyond the end yields nothing, and ends the dump."""
    dumps = Dumps()
    name = dumps.page(image, "", 0, FakeClock().monotonic).next.partition(" ")[0]
    page = dumps.page(image, f"{name} 99999999999999999999", 0, FakeClock().monotonic)
    assert (page.records, page.next) == ([], "")


def test_a_dump_over_the_bus():
    """A plain client receives records as maps, and a refusal of a bad cursor."""
    with (
        short_folder() as folder,
        cache(folder, clock=FakeClock()) as address,
        asker(address) as client,
        probe(folder) as publishing,
    ):
        mark = publishing.turn(seen(response("a.com", "a.com 60 A 192.0.2.1")))
        data = client.ask("dump", after=[mark])["data"]
        assert data["next"] == ""
        (record,) = data["records"]
        assert (record["question"], record["edges"]) == ("a.com", [["a.com", 1, "192.0.2.1"]])
        for cursor in ("x", "x" * 1000, 5):
            assert client.ask("dump", cursor=cursor)["error"] == "bad_request"
