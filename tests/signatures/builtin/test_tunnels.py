"""The signatures of tunnels and of exfiltration: what makes each fire, and what does not."""

from __future__ import annotations

import base64
import random

import pytest
from msgspec.structs import replace

from builders.detection_events import CURL, OTHER, findings, queries, started
from dnstrail.datasource import DataSources
from dnstrail.dns.whole_message import MAX_RECORDS
from dnstrail.signature import Finding
from dnstrail.testing import dns_query, dns_response, event
from dnstrail_signatures.builtin.dns_chunks import DnsChunks
from dnstrail_signatures.builtin.dns_rare_type import DnsRareType
from dnstrail_signatures.builtin.dns_tunnel import DnsTunnel
from dnstrail_signatures.builtin.dns_tunnel_tool import DnsTunnelTool
from dnstrail_signatures.builtin.dns_txt_code import MOST_TEXTS, DnsTxtCode
from dnstrail_signatures.engine.engine import Engine
from dnstrail_signatures.loading.scope import Allow, CommonSettings
from dnstrail_signatures.loading.signature_settings import SignatureSettings

LONG = [f"{place:052x}.t.example.com" for place in range(25)]
CHUNKS = [f"{place}-mzxw6ytboi2dcnbsmzxw6ytb.t.example.com" for place in range(30)]
RANDOM = random.Random(20261125)
TEXTS = [base64.b64encode(RANDOM.randbytes(180)).decode() for _ in range(5)]


def _txt(text):
    """Return a text as the strings of a record."""
    return '" "'.join(text[at : at + 200] for at in range(0, len(text), 200))


def both_types(names):
    return [f"{name} {kind}" for name in names for kind in ("A", "AAAA")]


def texts(*strings, name="l.evil.example.com", process=CURL):
    return [
        dns_response(f"{place}.{name} TXT", f'{place}.{name} 60 TXT "{text}"', process=process, at=place)
        for place, text in enumerate(strings)
    ]


def test_many_long_names_below_one_domain_are_a_tunnel():
    """The finding names the domain and an example, and comes once an hour for a program."""
    [found] = findings(DnsTunnel, queries([*LONG, *LONG]))
    assert found == {"domain": "example.com", "queries": 25, "example": LONG[-1]}


def test_names_that_are_asked_for_both_types_are_a_tunnel():
    """A client that asks each name for A and AAAA reaches the gate; its names count once."""
    assert len(findings(DnsTunnel, queries(both_types(LONG)))) == 1
    assert findings(DnsTunnel, queries(both_types(LONG[:14]) * 2)) == []


@pytest.mark.parametrize(
    ("names", "each"),
    [
        (LONG[:24], 1.0),
        ([f"{place:048x}.example.com" for place in range(60)], 1.0),
        (LONG[:14] * 4, 1.0),
        (LONG * 3, 13.0),
        ([f"{place:052x}.t{place}.com" for place in range(60)], 1.0),
        ([f"{place:052x}.avts.mcafee.com" for place in range(60)], 1.0),
        ([f"shop{place}.example.com.a-namespace-with-a-long-name.svc.cluster.local" for place in range(60)], 1.0),
        ([".".join(f"{place:032x}") + ".ip6.arpa PTR" for place in range(60)], 1.0),
    ],
    ids=[
        "too few",
        "too short",
        "too few distinct",
        "too slow",
        "many domains",
        "a known service",
        "a cluster",
        "reverse names",
    ],
)
def test_other_long_names_are_no_tunnel(names, each):
    """Few, short, repeated or slow names, those of many domains, known services and reverse names are silent."""
    assert findings(DnsTunnel, queries(names, each=each)) == []


def test_an_allowed_name_covers_no_tunnel_beside_it():
    """Names that the settings allow neither reach the gate of the others below their domain, nor silence it."""
    allow = SignatureSettings(CommonSettings(allow=Allow(names=("cdn.example.com",))))
    allowed = [f"{place:052x}.cdn.example.com" for place in range(25)]
    for names, reported in (([*allowed, *LONG], [LONG[-1]]), ([*allowed[:13], *LONG[:24]], [])):
        found: list[Finding] = []
        engine = Engine([DnsTunnel], DataSources(), found.append, settings={DnsTunnel.metadata.id: allow})
        for one in queries(names):
            engine.on_event(one)
        assert [finding.data["example"] for finding in found] == reported


def test_programs_do_not_add_up_to_a_tunnel():
    """Two programs that each ask half of the names are silent."""
    assert findings(DnsTunnel, [*queries(LONG[::2]), *queries(LONG[1::2], process=OTHER)]) == []


def test_a_client_for_each_query_is_seen_as_a_whole():
    """A script that starts a new process for each query reaches the gate."""
    each = [dns_query(name, process=replace(CURL, pid=place + 1), at=place) for place, name in enumerate(LONG)]
    assert len(findings(DnsTunnel, each)) == 1


def test_the_state_of_tunnels_is_bounded():
    """Beyond the bound of subjects, the one that was used longest ago is evicted and counted."""
    run = started(DnsTunnel, subjects=3)
    for name in [f"{place:052x}.t{place}.com" for place in range(10)]:
        run.event(dns_query(name, process=CURL))
    assert (len(run.signature.tables()[0]), run.signature.evicted) == (3, 7)


def test_numbered_chunks_are_exfiltration():
    """Thirty numbered payloads below one domain are reported; ordinary numbered hosts are not."""
    [found] = findings(DnsChunks, queries(CHUNKS))
    assert found["domain"] == "example.com"
    assert findings(DnsChunks, queries([f"{place}-web.example.com" for place in range(99)])) == []
    assert findings(DnsChunks, queries(CHUNKS[:29])) == []
    assert findings(DnsChunks, queries([CHUNKS[0]] * 99)) == []


def test_the_numbers_of_chunks_may_be_padded():
    """A number of up to nine digits, as scripts pad them with zeros, begins a chunk; a longer one does not."""
    for digits, reported in ((9, 1), (10, 0)):
        padded = [f"{place:0{digits}d}-mzxw6ytboi2dcnbsmzxw6ytb.t.example.com" for place in range(30)]
        assert len(findings(DnsChunks, queries(padded))) == reported


def test_chunks_that_are_asked_for_both_types_are_exfiltration():
    """A client that asks each name for A and AAAA reaches the gate; its names count once."""
    assert len(findings(DnsChunks, queries(both_types(CHUNKS)))) == 1
    assert findings(DnsChunks, queries(both_types(CHUNKS[:29]))) == []


def test_the_state_of_chunks_is_bounded():
    """Beyond the bound of subjects, one is evicted and counted."""
    run = started(DnsChunks, subjects=3)
    for place in range(10):
        run.event(dns_query(f"1-mzxw6ytboi2dcnbsmzxw6ytb.t{place}.com", process=CURL))
    assert run.signature.evicted == 7


@pytest.mark.parametrize(("kind", "fires"), [("NULL", True), ("TYPE65399", True), ("TXT", False), ("HTTPS", False)])
def test_rare_types_are_reported(kind, fires):
    """Queries of NULL and of the private type of iodine are reported, once for a domain."""
    asked = queries([f"{place}.t.example.com {kind}" for place in range(3)])
    assert len(findings(DnsRareType, asked)) == fires


def test_trust_anchor_telemetry_is_no_rare_type():
    """The names by which resolvers report their trust anchors are left out."""
    telemetry = ["_ta-4f66 NULL", "_ta-4a5c-4f66-9728.example NULL", "_ta-4f66.corp.example NULL"]
    assert findings(DnsRareType, queries(telemetry)) == []


@pytest.mark.parametrize(
    "name",
    [
        "_ta-mzxw6ytboi2dcnbs.example.com NULL",
        "_ta-4f66.mzxw6ytboi2dcnbs.example.com NULL",
        "_ta" + "-4f66" * 5 + ".example.com NULL",
        "_ta-4f66.example.com TYPE65399",
    ],
    ids=["no key tag", "a name below", "many key tags", "another type"],
)
def test_a_tunnel_does_not_hide_as_telemetry(name):
    """Who makes a tunnel chooses its names: only the few short ones of trust anchors are left out."""
    assert len(findings(DnsRareType, queries([name]))) == 1


@pytest.mark.parametrize("cls", [DnsRareType, DnsTunnelTool])
def test_what_was_reported_is_bounded(cls):
    """Beyond the bound of subjects, one is evicted and counted."""
    run = started(cls, subjects=3)
    for place in range(10):
        run.event(dns_query(f"x.=auth.t{place}.com NULL", process=CURL))
    assert (len(run.findings), run.signature.evicted) == (10, 7)


@pytest.mark.parametrize(
    ("name", "tool"),
    [
        ("zi03aA-Aaahhh-Drink-mal-ein-J-germeister-.t.example.com", "iodine"),
        ("aaaaao1kqa.=auth.t.example.com", "dns2tcp"),
        ("hvp1kf5bahnzaa.=connect.t.example.com", "dns2tcp"),
        ("dnscat.0123456789abcdef", "dnscat2"),
        ("aaa.stage.1234.t.example.com", "cobalt_strike"),
        ("post.stage.123456.t.example.com", "cobalt_strike"),
        ("author.example.com", None),
        ("stage.example.com", None),
        ("mydnscat.example.com", None),
    ],
)
def test_marks_of_tools_are_reported(name, tool):
    """A mark is reported with its tool; an ordinary name that looks alike is not."""
    assert [found["tool"] for found in findings(DnsTunnelTool, queries([name, name]))] == ([tool] if tool else [])


def test_a_command_in_a_text_is_code():
    """One TXT answer with a command is reported."""
    [found] = findings(DnsTxtCode, texts("$x = IEX(New-Object Net.WebClient)"))
    assert (found["domain"], found["reason"]) == ("example.com", "command iex(")


def test_random_texts_of_one_domain_are_code():
    """Five texts in base64 are reported, also if each comes twice; four, or those of many domains, are not."""
    [found] = findings(DnsTxtCode, texts(*TEXTS))
    assert found["reason"] == "5 random-looking texts"
    assert len(findings(DnsTxtCode, [each for each in texts(*TEXTS) for _ in range(2)])) == 1
    assert findings(DnsTxtCode, texts(*TEXTS[:4], *TEXTS[:4])) == []
    assert findings(DnsTxtCode, [texts(text, name=f"{text[:3]}x{p}.com")[0] for p, text in enumerate(TEXTS)]) == []


@pytest.mark.parametrize(
    "declared",
    [
        "v=DKIM1; k=rsa; p=MII{}",
        "v=DKIM1; h=sha256; t=s; p=MII{}; n=note;",
        "k=rsa; p=MII{}",
        "p=MIGf{}",
        "v=DMARC1; p=none; rua=mailto:{}@a.example",
        "v=spf1 include:{}.a.example ip4:192.0.2.0/24 -all",
    ],
)
def test_declarations_are_no_code(declared):
    """The keys of DKIM are random, too: a whole record of SPF, DKIM or DMARC declares itself."""
    assert findings(DnsTxtCode, texts(*(_txt(declared.format(text[:200])) for text in TEXTS))) == []


@pytest.mark.parametrize(
    "prefix", ["v=", "v=1;", "k=rsa", "p=", "v=spf1", "v=spf1 ", "v=DMARC1; ", "v=DKIM1; k=rsa; p="]
)
def test_a_part_of_a_declaration_hides_no_code(prefix):
    """Who sends code chooses how it begins: random texts behind a few octets of a declaration are reported."""
    assert len(findings(DnsTxtCode, texts(*(prefix + text[:200] for text in TEXTS)))) == 1


def test_short_and_plain_texts_are_no_code():
    """Site verifications and policies are short, or not random."""
    plain = [f"v=spf1 ip4:192.0.2.{place} include:_spf.example.com ~all" for place in range(9)]
    assert findings(DnsTxtCode, texts(*plain, *(text[:64] for text in TEXTS))) == []


def test_the_state_of_texts_is_bounded():
    """Beyond the bound of subjects, one is evicted and counted."""
    run = started(DnsTxtCode, subjects=3)
    for place in range(10):
        run.event(texts(TEXTS[0], name=f"t{place}.com")[0])
    assert run.signature.evicted == 7


def test_the_texts_of_one_answer_are_bounded():
    """Random-looking texts behind the first texts of an answer do not count."""
    records = [f'a.com 60 TXT "{text}"' for text in TEXTS]
    for before, reported in ((MOST_TEXTS - 5, 1), (MOST_TEXTS - 4, 0)):
        plain = [f'a.com 60 TXT "plain {place}"' for place in range(before)]
        assert len(findings(DnsTxtCode, [dns_response("a.com TXT", *plain, *records, process=CURL)])) == reported


@pytest.mark.parametrize("count", [MOST_TEXTS, MAX_RECORDS, 3000])
def test_a_command_is_found_at_any_place_of_an_answer(count):
    """However many texts stand before a command, and where its string ends within it, it is reported."""
    plain = [f'a.com 60 TXT "{place}"' for place in range(count)]
    answer = dns_response("a.com TXT", *plain, 'a.com 60 TXT "x power" "Shell -enc"', process=CURL)
    assert [found["reason"] for found in findings(DnsTxtCode, [answer])] == ["command powershell"]


def test_a_name_is_no_text():
    """A command within a name, or in two texts, is none; a message that is cut short has the texts before the cut."""
    name = "powershell.example.com"
    names = [f"{name} 60 TXT {text}" for text in ('"iex"', '"("')]
    assert findings(DnsTxtCode, [dns_response(f"{name} TXT", *names)]) == []
    whole = dns_response("a.com TXT", 'a.com 60 TXT "cmd.exe"', 'a.com 60 TXT "plain"').captured.payload
    found = [len(findings(DnsTxtCode, [event("net_packet_dns", whole[:size])])) for size in range(len(whole))]
    assert found == [size >= whole.index(b"cmd.exe") + 7 for size in range(len(whole))]
