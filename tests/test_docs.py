from __future__ import annotations

import ast
import inspect
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache, partial
from operator import attrgetter
from pathlib import Path

import click
import pytest

import dnstrail_probe
from builders.facts import SECOND, fact_of, progress_of
from builders.log_entries import fill
from builders.shop_history import keep_shop
from dnstrail import Event, EventSelector, Signature, SignatureMetadata
from dnstrail.bus.ipc import lookups_address
from dnstrail.captured import Process
from dnstrail.events import NAMES
from dnstrail.history.fact import Fact
from dnstrail.image.binding import bindings
from dnstrail.protocol.lookups import OPERATIONS
from dnstrail_cache.losses import losses_by_hop
from dnstrail_cache.state.health import OK, STATUSES
from dnstrail_cli.__main__ import main_command
from dnstrail_cli.lookups.options import FIELDS
from dnstrail_findings.presets import PRESETS
from dnstrail_findings.targets import FORMATS
from dnstrail_history.store.store import FactStore
from dnstrail_probe.ebpf.getaddrinfo.calls import _OUTCOMES
from dnstrail_signatures.loading.load import OF_FLEET, find, load
from dnstrail_signatures.loading.scope import CommonSettings
from live.cases import documented
from live.processes import dnstrail, run_dir, started, wait_until
from live.tapped_resolver import resolver
from live.workers import FakeClock, asker

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *sorted(DOCS.rglob("*.md"))]
BY_HAND = [page for page in PAGES if page.parent != DOCS / "reference" or page.name == "api.md"]
PRODUCT = ("services", "shared", "deploy", "Makefile", "docker-compose.yml", ".ci")
DEMO = Path(dnstrail_probe.__file__).parent / "sources/demo.pcap"
TIMEOUT = 120
DAY = 86_400
CURL = Process(4711, "curl", "/usr/bin/curl")
MOST_WORDS = {
    "README.md": 750,
    "CONTRIBUTING.md": 830,
    "CHANGELOG.md": 1_340,
    "docs/start docs/use": 16_800,
    "docs/inside": 8_650,
}
MOST_OF_SENTENCE = 28
WORD = re.compile(r"\S*\w\S*")
NAME = attrgetter("name")

BLOCK = re.compile(
    r"(?:^<!-- (?P<mark>.*?) -->\n)?^```(?P<language>[\w{}-]*)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL
)
KUBERNETES = "deploy/kubernetes/dnstrail.yaml"
CACHE, HISTORY, PAST, FILE, NOT_RUN = "test: cache", "test: history", "test: past", "file: ", "not run:"
OTHER_PROGRAMS = ("docker ", "podman ", "buildah ", "systemd-nspawn ")
TESTED_ELSEWHERE = ("test: client",)  # tests/pipeline/test_workers.py
COMPLETE = {  # of each operation the least request that is complete
    "get": {"key": "192.0.2.10"},
    "get_many": {"keys": ["192.0.2.10"]},
    "trail": {"key": "192.0.2.10"},
    "rank": {"connections": [{"address": "192.0.2.10"}]},
    "trail_many": {"connections": [{"address": "192.0.2.10"}]},
    "lost": {"worker": "test", "lost": {}},
    "join": {"group": "test", "worker": "test"},
}
BINDINGS = {bindings.BY_THREAD, bindings.BY_PROCESS, bindings.BY_PARENT, bindings.BY_DAEMON, bindings.BY_LAST}
NODE = re.compile(r"hostPath: \{path: (/(?:run|var)/[\w/-]+)")
LISTED = [  # a page, where it lists words of the code, and these
    ("use/operate.md", "See whether it works", STATUSES.keys() - {OK}),
    ("use/operate.md", "See what was lost", losses_by_hop([], {}, {}, {}).keys() - {"total"}),
    ("use/lookups.md", "Explain one connection", {*FIELDS}),
    ("use/lookups.md", r"`bound` names [^.]+", {"bound", *BINDINGS, *bindings.SAID}),
    ("use/outputs.md", "Choose a format", FORMATS.keys()),
    ("use/outputs.md", "To a webhook or a SIEM", PRESETS.keys()),
    ("use/settings.md", r"takes these keys(?s:.+?)\n\n(?s:.+?)\n\n", {*CommonSettings.__struct_fields__}),
    ("use/kubernetes.md", r"in folders of the node: [^.]+", {*NODE.findall((ROOT / KUBERNETES).read_text())}),
    ("inside/kernel.md", "Results of the C library", {name for name, _ in _OUTCOMES.values()}),
]
HARD_WORDS = re.compile(
    r"(?:^|[.:!?]\s+)(?:What|Whether|Of)\b|\b(?:tells?|told|lest|but for|so-and-so|likewise|somebody|lets? go)\b"
)


@dataclass(frozen=True)
class Block:
    """A fenced block of a page, with the comment before it."""

    page: str
    mark: str
    language: str
    text: str

    @property
    def is_run(self) -> bool:
        if self.mark.startswith(FILE):
            return True
        return self.language in ("sh", "python") and not self.mark.startswith((NOT_RUN, *TESTED_ELSEWHERE))


@cache
def blocks(page: Path) -> tuple[Block, ...]:
    """Return the fenced blocks of a page, in order."""
    return tuple(
        Block(page.name, found["mark"] or "", found["language"], found["text"])
        for found in BLOCK.finditer(page.read_text())
    )


def prose(page: Path) -> str:
    """Return a page without its fenced blocks."""
    return BLOCK.sub("", page.read_text())


@cache
def text(page: Path) -> str:
    """Return a page without its comments."""
    return re.sub(r"\s*<!--.*?-->", "", page.read_text(), flags=re.DOTALL)


def sentences(page: Path) -> list[str]:
    """Return the sentences of a page; a cell of a table, and an entry of a list, ends one."""
    plain = re.sub(r"\]\([^)]*\)", "]", BLOCK.sub("\n\n", text(page)))
    plain = re.sub(r"^(?:\s*[*#-]+ |\d+\. )", "\n\n", plain, flags=re.MULTILINE)
    parts = re.split(r"\n\s*\n|\||(?<=[.!?:])\**\s", plain)
    return [" ".join(part.split()) for part in parts]


def spans(page: Path) -> list[str]:
    """Return the inline code of a page."""
    return re.findall(r"`([^`\n]+)`", prose(page))


def rows(page: Path, heading: str) -> list[list[str]]:
    """Return the cells of the first table below a heading, its head left out."""
    below = page.read_text().split(f" {heading}\n", 1)[1].partition("\n#")[0]
    table = re.search(r"(?:^\|.*\n)+", below, re.MULTILINE)
    assert table, heading
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table.group().splitlines()[2:]]


def codes(cell: str) -> list[str]:
    """Return the inline code of a cell."""
    return re.findall(r"`([^`]+)`", cell)


@pytest.fixture(scope="module")
def cache_folder() -> Iterator[Path]:
    """Yield the run-dir of a pipeline that has played the demo capture and stays."""
    with run_dir() as folder, started("--capture", "demo", "--stay", "--run-dir", folder):
        wait_until(lambda: dnstrail("get", "updates.example", "--run-dir", folder).returncode == 0, "the demo capture")
        keep_shop(history_beside(folder))
        yield folder


def history_beside(run_dir: Path) -> Path:
    """Return the folder of a history beside a run-dir."""
    return run_dir.parent / "history"


@contextmanager
def reader_folder() -> Iterator[Path]:
    """Yield a folder as a reader has it: a capture, and the commands in .venv/bin."""
    with run_dir() as folder:
        folder.chmod(0o755)  # the unprivileged workers read signatures here
        shutil.copy(DEMO, folder / "traffic.pcap")
        (folder / ".venv").mkdir()
        (folder / ".venv/bin").symlink_to(Path(sys.executable).parent)
        fill(folder / "history", logged_facts())
        yield folder


def logged_facts() -> Iterator[Fact]:
    """Yield the questions of a program: one call for two types, a slow answer, and failures."""
    begin = int(time.time()) // DAY * DAY * SECOND
    asked = partial(fact_of, process=CURL)
    four, six = ("news.example", 1, "192.0.2.10", 60), ("news.example", 28, "2001:db8::10", 60)
    yield asked(0, ended=begin + 5 * SECOND, relations=(four,), waited=11_000_000)
    yield asked(1, ended=begin + 5 * SECOND, type=28, relations=(six,), waited=12_000_000)
    slow = ("slow.example", 1, "192.0.2.20", 60)
    yield asked(2, ended=begin + 6 * SECOND, relations=(slow,), waited=5_020_000_000, tries=2)
    yield asked(
        3, ended=begin + 7 * SECOND, name="gone.invalid", relations=(), outcome=6, rcode=None, waited=30 * SECOND
    )
    yield asked(4, ended=begin + 8 * SECOND, name="none.invalid", relations=(), outcome=2, rcode=3)


@contextmanager
def past_folder() -> Iterator[Path]:
    """Yield the run-dir of a service whose history has an answer of five days ago, and one of a Tuesday."""
    with resolver() as (folder, _, _):
        times = (time.time() - 5 * DAY, datetime(2026, 11, 24, 14, tzinfo=UTC).timestamp())
        with closing(FactStore(history_beside(folder), FakeClock())) as store:
            for number, at in enumerate(sorted(times)):
                ended = (int(at) - 10) * SECOND
                address = ("shop.example", 1, "203.0.113.7", 300)
                store.add(fact_of(number, ended=ended, process=CURL, relations=(address,)))
            assert store.commit(progress_of(1))
        with started("history", "--run-dir", folder, "--folder", history_beside(folder)) as worker:
            next(line for line in worker.stderr or () if '"ready"' in line)
            yield folder


def run_block(block: Block, folder: Path, cache_folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a block as its reader would, without sudo."""
    if block.mark == PAST:
        with past_folder() as runs:  # on a busy host the cache answers some lookups by itself
            tries = (run_at(runs, block, folder, cache_folder) for _ in range(100))
            return next(done for done in tries if done.returncode == 0)
    return run_at(cache_folder if block.mark == CACHE else folder / "run", block, folder, cache_folder)


def run_at(runs: Path, block: Block, folder: Path, cache_folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a block with a run-dir."""
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    command = [sys.executable, "-c", block.text]
    if block.mark == HISTORY:
        script = re.sub("(dnstrail (?:seen|new))", rf"\1 --folder {history_beside(cache_folder)}", block.text)
        command = ["sh", "-e", "-c", script.replace("sudo ", "")]
    elif block.language == "sh":
        ours = block.text.replace("sudo ", "").replace("dnstrail log", "dnstrail log --folder history")
        command = ["sh", "-e", "-c", ours]
    return subprocess.run(
        command,
        cwd=folder,
        env={**os.environ, "PATH": path, "DNSTRAIL_RUN_DIR": str(runs), "COLUMNS": "120", "TZ": "UTC"},
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        check=False,
    )


@cache
def run_page(page: Path, cache_folder: Path) -> dict[Block, str]:
    """Run the blocks of a page in order; return the output of each."""
    outputs: dict[Block, str] = {}
    with reader_folder() as folder:
        for block in filter(lambda block: block.is_run, blocks(page)):
            if block.mark.startswith(FILE):
                file = folder / block.mark.removeprefix(FILE)
                file.write_text(block.text)
                file.chmod(0o644)
                continue
            done = run_block(block, folder, cache_folder)
            assert done.returncode == 0, f"{block.text}{done.stdout}{done.stderr}"
            outputs[block] = done.stdout
    return outputs


@pytest.mark.parametrize("page", [page for page in PAGES if any(block.is_run for block in blocks(page))], ids=NAME)
def test_every_command_of_a_page_works(page: Path, cache_folder: Path) -> None:
    """Every command of a page exits with 0, and prints the output that the page shows below it."""
    outputs = run_page(page, cache_folder)
    for block, shown in zip(blocks(page), blocks(page)[1:], strict=False):
        if block in outputs and shown.language == "text" and not shown.mark:
            assert outputs[block] == shown.text


@pytest.mark.parametrize("page", [ROOT / "README.md", DOCS / "start/first-signature.md"], ids=NAME)
def test_the_signature_of_a_page_fires_once(page: Path, cache_folder: Path) -> None:
    """The signature that a page shows reports one finding on the demo capture."""
    printed = next(output for block, output in run_page(page, cache_folder).items() if "--signatures" in block.text)
    assert printed.count("RELAY_RESOLVED root=updates.example") == 1


@pytest.mark.parametrize("page", PAGES, ids=NAME)
def test_every_block_is_marked(page: Path) -> None:
    """Every block names its language, and a command that no test runs states the reason."""
    for block in blocks(page):
        assert block.language in ("sh", "python", "text", "toml", "{eval-rst}"), block.text
        assert block.language != "python" or block.mark.startswith((CACHE, FILE, *TESTED_ELSEWHERE)), block.text
        if block.mark.startswith(NOT_RUN):
            assert len(block.mark.removeprefix(NOT_RUN).split()) >= 3, f"no reason: {block.text}"
        else:
            marks = "", CACHE, HISTORY, PAST, *TESTED_ELSEWHERE
            assert block.mark in marks or block.mark.startswith(FILE), block.mark


@pytest.mark.parametrize("places", MOST_WORDS)
def test_pages_are_short(places: str) -> None:
    """The pages of each part have at most so many words, code included."""
    pages = [page for page in BY_HAND if str(page.relative_to(ROOT)).startswith(tuple(places.split()))]
    assert pages
    assert sum(len(WORD.findall(text(page))) for page in pages) <= MOST_WORDS[places]


@pytest.mark.parametrize("page", BY_HAND, ids=NAME)
def test_sentences_are_short(page: Path) -> None:
    """No sentence of a page that a person wrote has more than 28 words."""
    assert [one for one in sentences(page) if len(WORD.findall(one)) > MOST_OF_SENTENCE] == []


def test_the_first_page_links_every_page() -> None:
    """docs/index.md, from which the navigation of the site is made, links every page."""
    pages = {str(page.relative_to(DOCS)) for page in DOCS.rglob("*.md")} - {"index.md"}
    assert set(re.findall(r"\]\(([\w/-]+\.md)\)", (DOCS / "index.md").read_text())) == pages


@pytest.mark.parametrize("page", PAGES, ids=NAME)
def test_every_link_leads_somewhere(page: Path) -> None:
    """Every relative link names a file that exists, and a heading of that file."""
    for link in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
        if link.startswith("https://"):
            continue
        path, _, anchor = link.partition("#")
        target = page.parent / path if path else page
        assert target.exists(), link
        assert not anchor or anchor in _anchors(target), link


def _anchors(page: Path) -> set[str]:
    headings = re.findall(r"^#+ (.+)$", prose(page), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=NAME)
def test_every_file_that_a_page_names_exists(page: Path) -> None:
    """Every path of the source tree that a page names exists, also a path that leaves the package out."""
    tree = [f"/{file}" for file in _tracked()]
    top = tuple(f"{name}/" for name in ("services", "shared", "deploy", "docs", "tests", ".ci"))
    made = {block.mark.removeprefix(FILE) for block in blocks(page)}
    named = [span for span in spans(page) if re.fullmatch(r"[\w./-]+", span) and span not in made]
    for path in named:
        if path.startswith(top):
            assert (ROOT / path).exists(), path
        elif path.endswith((".py", ".bpf.c")):
            assert any(file.endswith(f"/{path}") for file in tree), path


@cache
def _tracked() -> tuple[str, ...]:
    folders = [ROOT / name for name in ("services", "shared", "deploy", "tests")]
    return tuple(str(file.relative_to(ROOT)) for folder in folders for file in folder.rglob("*") if file.is_file())


@pytest.mark.parametrize("page", PAGES, ids=NAME)
def test_every_make_word_exists(page: Path) -> None:
    """Every `make` word of a page is a target of the Makefile."""
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    code = "\n".join([*spans(page), *(block.text for block in blocks(page))])
    assert set(re.findall(r"^(?:sudo )?make ([a-z-]+)", code, re.MULTILINE)) <= targets


def _commands(command: click.Command) -> Iterator[click.Command]:
    yield command
    if isinstance(command, click.Group):
        with click.Context(command) as context:
            for name in command.list_commands(context):
                found = command.get_command(context, name)
                assert found, name
                yield from _commands(found)


def _options() -> set[str]:
    parameters = [option for command in _commands(main_command) for option in command.params]
    shown = [option for option in parameters if not getattr(option, "hidden", False)]
    return {word for option in shown for word in option.opts if word.startswith("--")} | {"--help"}


def test_every_option_of_a_page_exists() -> None:
    """Every option that a page names is an option of some command, and not one that goes away."""
    ours = [span for page in DOCS.rglob("*.md") for span in spans(page) if not span.startswith(OTHER_PROGRAMS)]
    assert {word for span in ours for word in re.findall(r"--[a-z-]+", span)} <= _options()


def test_every_environment_variable_is_documented() -> None:
    """The pages name every variable that dnstrail reads, and no other."""
    variable = re.compile(r"(?<![A-Z_])_?DNSTRAIL_[A-Z_]+")
    named = {name for page in PAGES for name in variable.findall(page.read_text())}
    product = set(variable.findall(_texts(*PRODUCT)))
    assert (sorted(product - named), sorted(named - product)) == ([], [])


def _texts(*names: str) -> str:
    files = [file for name in names for file in [ROOT / name, *(ROOT / name).rglob("*")] if file.is_file()]
    written = [file for file in files if file != Path(__file__) and file.parent.name != "__pycache__"]
    return "\n".join(file.read_text(errors="ignore") for file in written)


@pytest.mark.parametrize("page", [page for page in BY_HAND if page.name != "CHANGELOG.md"], ids=NAME)
def test_every_identifier_of_a_page_is_real(page: Path) -> None:
    """Every counter, field and event in lower case that a page names occurs in the product, or in its blocks."""
    named = {span for span in spans(page) if re.fullmatch(r"[a-z]+(?:_[a-z]+)+", span)}
    known = {*_words(), *(word for block in blocks(page) for word in re.findall(r"\w+", block.text))}
    assert sorted(named - known) == []


@cache
def _words() -> frozenset[str]:
    return frozenset(re.findall(r"\w+", _texts("services", "shared", "tests", "deploy", "docker-compose.yml")))


def test_every_event_is_documented() -> None:
    """docs/reference/events.md lists every event, and detections.md every built-in signature."""
    assert sorted(codes(cells[0])[0] for cells in rows(DOCS / "reference/events.md", "Events")) == sorted(NAMES)
    built_in = {codes(cells[0])[0] for cells in rows(DOCS / "reference/detections.md", "Detections")}
    loaded = [*load(find()), *load(find(group=OF_FLEET))]
    assert built_in == {cls.metadata.event_name for cls in loaded}


def test_every_documented_operation_is_answered(cache_folder: Path) -> None:
    """A running cache answers every operation of the reference."""
    with asker(lookups_address(cache_folder)) as client:
        for operation in OPERATIONS:
            reply = client.ask(operation, **COMPLETE.get(operation, {}))
            assert reply["ok"], (operation, reply)


def _forms() -> list[str]:
    return [form for cells in rows(DOCS / "use/lookups.md", "Ask for a past time") for form in codes(cells[0])]


@pytest.mark.parametrize("form", _forms())
def test_every_documented_time_is_accepted(form: str) -> None:
    """Every form of a time in use/lookups.md is accepted by --at, or refused for this hour of the day alone."""
    done = dnstrail("get", "--capture", "demo", f"--at={form}", "shop.example")
    assert done.returncode in (0, 1) or "in the future" in done.stderr, done.stderr


@pytest.mark.parametrize(("page", "place", "words"), LISTED)
def test_a_list_of_a_page_is_that_of_the_code(page: str, place: str, words: set[str]) -> None:
    """A page lists all words of the code, in a sentence or in the first column below a heading."""
    file = DOCS / page
    if f"## {place}\n" in file.read_text():
        found = " ".join(cells[0] for cells in rows(file, place))
    else:
        [found] = re.findall(place, text(file))
    assert {*codes(found)} == words


@pytest.mark.parametrize(("heading", "cls"), [("The methods", Signature), ("The event", Event)])
def test_what_a_signature_may_use_exists(heading: str, cls: type) -> None:
    """Signatures and events have each method and attribute that use/signatures.md lists."""
    listed = [code for cells in rows(DOCS / "use/signatures.md", heading) for code in codes(cells[0])]
    names = {code.partition("(")[0].partition(".")[0] for code in listed}
    assert names <= {*dir(cls), *getattr(cls, "__annotations__", ())}


@pytest.mark.parametrize("page", ["use/porting.md", "use/signatures.md"])
def test_the_parameters_of_a_page_are_those_of_the_class(page: str) -> None:
    """A class that a page shows with its parameters begins with these, in this order."""
    classes = {cls.__name__: cls for cls in (EventSelector, SignatureMetadata)}
    shown = re.findall(rf"`({'|'.join(classes)})\(([\w, ]+)\)", text(DOCS / page))
    assert shown
    for name, parameters in shown:
        known = [*inspect.signature(classes[name]).parameters]
        assert known[: parameters.count(",") + 1] == parameters.split(", ")


@pytest.mark.parametrize("page", PAGES, ids=NAME)
def test_language_is_plain(page: Path) -> None:
    """A page keeps the language rules of CONTRIBUTING that a program can check."""
    plain = re.sub(r"`[^`\n]+`|\"[^\"\n]+\"|\*[^*\n]+\*", "", prose(page))
    assert [line for line in plain.splitlines() if HARD_WORDS.search(line)] == []


def test_page_of_the_detections_is_current(tmp_path: Path) -> None:
    """docs/reference/detections.md is what deploy/make_detections_page.py writes."""
    made, page = tmp_path / "detections.md", DOCS / "reference/detections.md"
    script = ROOT / "deploy/make_detections_page.py"
    subprocess.run([sys.executable, str(script), str(made)], check=True, timeout=TIMEOUT)
    assert made.read_text() == page.read_text(), f"run {script} {page}"


def test_picture_of_the_demo_is_current(tmp_path: Path) -> None:
    """docs/demo.svg is what deploy/make_demo_picture.py draws."""
    made = tmp_path / "demo.svg"
    script = ROOT / "deploy/make_demo_picture.py"
    subprocess.run([sys.executable, str(script), str(made)], check=True, timeout=TIMEOUT)
    assert made.read_text() == (DOCS / "demo.svg").read_text(), f"run {script} docs/demo.svg"


def test_each_case_of_a_transaction_is_checked() -> None:
    """Live tests check each case in the table of transactions: they read from it what to expect."""
    files = ("pipeline/test_transactions_live.py", "long/test_unanswered_live.py")
    nodes = (node for file in files for node in ast.walk(ast.parse((ROOT / "tests" / file).read_text())))
    constants = {node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str)}
    assert len(documented()) > 10, "the table was read"
    assert {*documented()} <= constants
