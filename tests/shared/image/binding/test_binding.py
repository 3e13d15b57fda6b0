"""The name that a connection means, by the mechanisms of real clients; many names share one address.

Tests of dnstrail.image.binding.binder, dnstrail.image.binding.scope.
"""

from __future__ import annotations

import pytest

from builders.binding_helpers import APP, OTHER, SHARED, SHARED6, Host, thread
from builders.dns_builders import AAAA, HTTPS, A, by_hand, record, t
from builders.talk import back, packed, query
from dnstrail.captured import Captured, Process
from dnstrail.connection import Connection
from dnstrail.events import EFFECTS, NET_SERVER_NAME, NET_TCP_CONNECT, NET_UDP_CLOSE
from dnstrail.image.apply import apply_event
from dnstrail.image.result import LookupResult

FIRST, SECOND, MAIN = thread(APP, 71), thread(APP, 72), thread(APP, 70)
CHILD = Process(80, "child", parent_pid=70, thread_id=80, start_time=t(-50))
STRANGER = Process(90, "stranger", parent_pid=1, thread_id=90, start_time=t(-200))


@pytest.fixture
def host():
    return Host()


def test_a_thread_connects_to_what_it_asked(host):
    """Two threads ask two names of one address and connect in the opposite order: each means its own question."""
    host.asks(0, "one", by=FIRST).asks(0.01, "two", by=SECOND)
    assert [host.opens(0.1, by=SECOND), host.opens(0.2, by=FIRST)] == ["two", "one"]


def test_the_last_connection_is_the_one_opened_last_in_whatever_order_they_arrive(host):
    """Events of two processors arrive out of order: at its time each connection is found with its own name."""
    host.asks(0, "one", by=FIRST).asks(0.01, "two", by=SECOND).asks(0.02, "three", by=MAIN)
    assert [host.opens(0.3, by=MAIN), host.opens(0.1, by=FIRST), host.opens(0.2, by=SECOND)] == ["three", "one", "two"]
    found = [host.bound(after, past=True, process=70, port=443) for after in (0.1, 0.2, 0.3)]
    assert found == ["one", "two", "three"]
    assert host.bound(0.4, process=70, port=443) == "three"


def test_a_process_connects_in_the_order_of_asking(host):
    """A resolver thread asks, and the main thread connects: the oldest question of the process comes first."""
    for number in range(4):
        host.asks(number / 100, f"n{number}", by=thread(APP, 100 + number))
    assert [host.opens(1 + number / 100, by=MAIN) for number in range(4)] == ["n0", "n1", "n2", "n3"]


def test_the_order_is_the_order_of_asking(host):
    """The question asked first is the oldest, even if its answer came last."""
    host.asks(0, "one", by=FIRST, answered=0.05).asks(0.01, "two", by=SECOND)
    assert [host.opens(0.1, by=MAIN), host.opens(0.11, by=MAIN)] == ["one", "two"]


def test_a_process_connects_in_the_order_in_which_its_threads_return(host):
    """The oldest question is the one whose sockets were closed first, then those whose sockets are open."""
    host.asks(0, "one", by=FIRST).asks(0.01, "two", by=SECOND).asks(0.02, "three", by=thread(APP, 73))
    host.returns(0.05, SECOND)
    host.returns(0.06, FIRST)
    assert [host.opens(0.1 + number / 100, by=MAIN) for number in range(3)] == ["two", "one", "three"]


def test_a_question_with_an_open_socket_comes_last(host):
    """A resolver in Go or Chromium asks for each family by a socket of its own; any thread connects once all closed."""
    host.asks(0, "one", SHARED, SHARED6, by=FIRST).asks(0.01, "two", SHARED, SHARED6, by=SECOND)
    host.returns(0.05, FIRST, sockets=1)
    host.returns(0.06, SECOND)
    assert host.opens(0.07, by=FIRST) == "two"
    host.returns(0.08, FIRST)
    assert host.opens(0.09, by=SECOND) == "one"


def test_a_question_waits_for_the_family_without_addresses(host):
    """The socket of a query whose answer has no addresses counts, too."""
    host.asks(0, "one", by=FIRST).asks(0.01, "two", by=SECOND)
    without = host.queries(0.02, "one", AAAA, FIRST)
    host.returns(0.05, FIRST, sockets=1)
    host.returns(0.06, SECOND)
    assert host.opens(0.07, by=FIRST) == "two"
    host.dns(0.08, by_hand(query("one", AAAA)[12:]), back(without), FIRST)
    host.returns(0.09, FIRST)
    assert host.opens(0.1, by=SECOND) == "one"


def test_a_question_without_addresses_is_dropped(host):
    """A question that got no address by the close of its socket waits for no connection."""
    host.queries(0, "missing", A, FIRST)
    host.asks(0, "one", by=SECOND)
    host.returns(0.1, FIRST)
    assert host.connects(0.2, OTHER) == ""
    identity = "", APP.pid, APP.start_time
    part = host.image.binder.waits.of(identity)
    assert [question.name for question in part.waiting.of(identity)] == ["one"]


def test_a_repeated_query_is_no_further_question(host):
    """A resolver that sends a query again, by the same socket, has one question."""
    flow = host.queries(0, "one", A, FIRST)
    host.dns(0.5, query("one", A), flow, FIRST)
    host.dns(0.6, by_hand(query("one", A)[12:], record(b"\xc0\x0c", A, packed(SHARED), 60)), back(flow), FIRST)
    host.asks(0.7, "two", by=SECOND)
    assert [host.opens(1, by=MAIN), host.opens(1.1, by=MAIN)] == ["one", "two"]


def test_a_program_begins_with_ipv6_where_it_works(host):
    """A connection over IPv4 means a question without IPv6 addresses, once IPv6 has worked in its network namespace."""
    host.asks(0, "other", SHARED6)
    assert host.opens(0.1, SHARED6) == "other"
    host.asks(1, "dual", SHARED, SHARED6, by=FIRST).asks(1.01, "plain", by=SECOND)
    assert [host.opens(1.1, by=MAIN), host.opens(1.11, SHARED6, by=MAIN)] == ["plain", "dual"]


def test_a_program_begins_with_either_family_where_ipv6_does_not_work(host):
    """Without a connection over IPv6 the oldest question comes first, whatever addresses it has."""
    host.asks(0, "other", SHARED6)
    host.connects(0.1, SHARED6)
    host.concludes(0.2, connected=False)
    host.asks(1, "dual", SHARED, SHARED6, by=FIRST).asks(1.01, "plain", by=SECOND)
    assert [host.opens(1.1, by=MAIN), host.opens(1.11, by=MAIN)] == ["dual", "plain"]


def test_a_later_attempt_may_use_ipv4(host):
    """A name whose IPv6 address failed is tried over IPv4, before another name."""
    host.asks(0, "other", SHARED6)
    assert host.opens(0.1, SHARED6) == "other"
    host.asks(1, "dual", SHARED, SHARED6, by=FIRST).asks(1.01, "plain", by=SECOND)
    assert host.connects(1.1, SHARED6, by=MAIN) == "dual"
    host.concludes(1.11, connected=False)
    assert [host.opens(1.12, by=MAIN), host.opens(1.13, by=MAIN)] == ["dual", "plain"]


def test_a_connection_over_udp_spends_no_question(host):
    """A client tries QUIC and TCP for one question: over UDP it means the last one, and leaves it to TCP."""
    host.asks(0, "one")
    assert [host.connects(0.1, transport="udp"), host.opens(0.2)] == ["one", "one"]
    host.asks(1, "two")
    assert [host.connects(1.1, transport="udp"), host.opens(1.2)] == ["two", "two"]


def test_a_connection_over_udp_ends_with_its_socket(host):
    """A connection over UDP is found by its source port at once, and until its close."""
    host.asks(0, "one")
    host.connects(1, transport="udp", source_port=40000)
    assert host.bound(2, source_port=40000) == "one"
    host.apply(NET_UDP_CLOSE, 3, host.flow(SHARED, 443), APP)
    assert [host.bound(4, source_port=40000), host.bound(2, source_port=40000, past=True)] == ["", "one"]


def test_an_answer_that_has_not_come_is_no_candidate(host):
    """A connection never means a question whose answer came later, whatever was applied first."""
    host.asks(0, "slow", by=FIRST, answered=0.5).asks(0.01, "quick", by=SECOND)
    assert [host.opens(0.1, by=MAIN), host.opens(0.6, by=MAIN)] == ["quick", "slow"]


def test_a_spent_question_is_no_candidate(host):
    """One question leads to one connection; another connection means the last question of its process."""
    host.asks(0, "one").asks(0.01, "two")
    assert [host.opens(after) for after in (0.1, 0.2, 0.3)] == ["one", "two", "two"]


def test_a_question_ends_with_its_answer(host):
    """A question past TTL and grace is no candidate."""
    host.asks(0, "old", by=FIRST, ttl=5).asks(50, "new", by=SECOND)
    assert host.opens(66, by=MAIN) == "new"


@pytest.mark.parametrize("by", [MAIN, STRANGER])
def test_a_question_names_no_connection_from_the_instant_at_which_its_answer_ends(by):
    """At TTL + grace it is neither a candidate of its own process nor the last question of another one."""
    for after, name in ((64.999999, "one"), (65, "")):
        assert Host(grace=60).asks(0, "one", answered=0, ttl=5).connects(after, by=by) == name


def test_only_the_address_of_the_answer_counts(host):
    """A question is a candidate for the addresses of its own answers."""
    host.asks(0, "one", OTHER).asks(0.01, "two")
    assert [host.opens(0.1), host.opens(0.2, OTHER)] == ["two", "one"]


def test_an_address_that_a_service_binding_hints_at_counts(host):
    """The hints of an HTTPS record are addresses that its question waits for."""
    flow = host.queries(0, "one", HTTPS, APP)
    hint = b"\0\1\0" + b"\0\4\0\4" + packed(SHARED)  # priority 1, target ".", ipv4hint
    host.dns(0.01, by_hand(query("one", HTTPS)[12:], record(b"\xc0\x0c", HTTPS, hint, 60)), back(flow), APP)
    assert (host.opens(0.1), host.binding.by) == ("one", "thread")


def test_an_answer_belongs_to_the_query_of_its_own_thread(host):
    """Two threads ask one name and get other addresses, in the opposite order: each connects by its own question."""
    threads = ((FIRST, OTHER), (SECOND, SHARED))
    flows = [host.queries(0, "one", A, by) for by, _ in threads]
    for (by, address), flow in reversed([*zip(threads, flows, strict=True)]):
        host.dns(0.1, by_hand(query("one", A)[12:], record(b"\xc0\x0c", A, packed(address), 60)), back(flow), by)
    assert [(host.opens(0.2, address, by), host.binding.by) for by, address in threads] == [("one", "thread")] * 2


def test_an_ended_process_is_no_parent_of_a_process_whose_fork_was_not_seen(host):
    """Another process may have had its pid: the connection means the last question."""
    host.asks(0, "one").asks(1, "two", by=STRANGER)
    host.exits(2)
    assert (host.opens(3, by=CHILD), host.binding.by) == ("two", "last")


def test_a_child_connects_to_what_its_parent_asked(host):
    """A child without questions means the oldest question of its parent, as in Chromium."""
    host.asks(0, "one").asks(0.01, "two")
    assert [host.opens(after, by=CHILD) for after in (0.1, 0.2)] == ["one", "two"]


def test_the_forker_is_the_parent(host):
    """A child means the questions of the process that forked it, also after that process has ended."""
    host.asks(0, "one").asks(0.01, "other", by=STRANGER)
    host.forks(0.05, 81)
    host.exits(0.06)
    orphan = Process(81, "orphan", parent_pid=1, thread_id=81, start_time=t(0.05))
    assert host.opens(0.1, by=orphan) == "one"


def test_without_a_candidate_the_last_question_counts(host):
    """A connection of a process that asked nothing means the last question, that of the narrowest scope first."""
    near = Process(91, "near", container_id="c1", thread_id=91, start_time=t(-9))
    neighbour = Process(92, "neighbour", container_id="c1", thread_id=92, start_time=t(-9))
    host.asks(0, "in.container", by=near).asks(1, "last", by=STRANGER)
    assert host.opens(2, by=neighbour) == "in.container"
    assert host.opens(2, by=CHILD) == "last"
    assert host.binding.by == "last"


def test_nothing_is_known_of_an_unknown_address(host):
    """A connection to an address that nobody asked for is bound to no name."""
    assert host.opens(0, OTHER) == ""
    assert list(host.image.binder.bindings.open_after(0))


# Several attempts for one name


def test_both_families_are_one_question(host):
    """Happy Eyeballs: the second attempt, to the other family, spends no other name."""
    host.asks(0, "one", SHARED, SHARED6, by=FIRST).asks(0.01, "two", SHARED, SHARED6, by=SECOND)
    names = [host.connects(after, SHARED6, MAIN) for after in (0.1, 0.11)]
    names += [host.connects(after, SHARED, MAIN) for after in (0.35, 0.36)]
    assert names == ["one", "two", "one", "two"]


def test_a_working_connection_needs_no_other(host):
    """After a connection succeeded, another one of its process means another name."""
    host.asks(0, "one", SHARED, SHARED6, by=FIRST).asks(0.01, "two", by=SECOND)
    assert [host.opens(0.1, SHARED6, MAIN), host.opens(0.5, SHARED, MAIN)] == ["one", "two"]


def test_a_failed_attempt_is_followed_by_the_next_address(host):
    """After an attempt failed, the next address of the same name is tried at once."""
    host.asks(0, "one", SHARED, SHARED6, by=FIRST).asks(0.01, "two", by=SECOND)
    assert host.connects(0.1, SHARED6, MAIN) == "one"
    host.concludes(0.101, connected=False)
    assert [host.opens(0.102, by=MAIN), host.opens(0.2, by=MAIN)] == ["one", "two"]


def test_an_attempt_at_once_is_for_another_name(host):
    """No client tries the second family within 100 ms while the first attempt runs."""
    host.asks(0, "one", SHARED, SHARED6, by=FIRST).asks(0.01, "two", by=SECOND)
    assert [host.connects(0.1, SHARED6, MAIN), host.connects(0.15, SHARED, MAIN)] == ["one", "two"]


def test_a_thread_that_asks_another_name_has_given_up(host):
    """After a failed attempt a thread asks another name: its next connection means this name."""
    host.asks(0, "one", SHARED, SHARED6)
    assert host.connects(0.1, SHARED6) == "one"
    host.concludes(0.101, connected=False)
    host.asks(0.2, "two")
    assert host.connects(0.3) == "two"


def test_parallel_connections_mean_one_name(host):
    """A client opens several connections for one answer: while none has succeeded they mean this name."""
    host.asks(0, "last.of.another", by=STRANGER).asks(0.1, "one")
    assert [host.connects(after) for after in (0.2, 0.201, 0.202)] == ["one"] * 3


def test_a_name_asked_again_is_one_question(host):
    """A thread that asks a name twice before it connects has one question."""
    host.asks(0, "one").asks(0.1, "one").asks(0.2, "two")
    assert [host.opens(0.3), host.opens(0.4)] == ["one", "two"]


def test_two_threads_ask_one_name(host):
    """Two threads that ask the same name have a question each."""
    host.asks(0, "one", by=FIRST).asks(0.01, "one", by=SECOND).asks(0.02, "two", by=thread(APP, 73))
    assert [host.opens(after, by=MAIN) for after in (0.1, 0.2, 0.3)] == ["one", "one", "two"]


def test_families_asked_by_two_threads_are_one_question(host):
    """A and AAAA that two threads ask for one name, as in Go, are one question."""
    host.asks(0, "one", SHARED, by=FIRST).asks(0.0001, "one", SHARED6, by=SECOND).asks(0.01, "two", SHARED, SHARED6)
    assert [host.opens(0.1, SHARED6, MAIN), host.opens(0.2, SHARED6, thread(APP, 73))] == ["two", "one"]


# Processes


def test_a_recycled_pid_inherits_no_question(host):
    """A process with the pid of an ended process does not mean what that process asked."""
    again = Process(70, "again", parent_pid=7, thread_id=70, start_time=t(1))
    host.asks(0, "dead", OTHER, SHARED).asks(0.5, "other", by=STRANGER)
    host.exits(0.6)
    assert host.opens(1.1, by=again) == "other"


def test_a_child_of_a_recycled_pid_inherits_no_question(host):
    """A child of a process with the pid of an ended one does not mean what the ended one asked."""
    again = Process(70, "again", parent_pid=7, thread_id=70, start_time=t(1))
    late = Process(95, "late", parent_pid=70, thread_id=95, start_time=t(2))
    host.asks(0, "dead").asks(0.5, "last", by=STRANGER)
    host.execs(1, again)  # the exit was lost
    assert host.opens(2.1, by=late) == "last"


def test_a_forked_process_has_a_pid_anew(host):
    """A fork states that the process that had the pid before has ended."""
    host.asks(0, "dead").asks(0.5, "last", by=STRANGER)
    host.forks(1, 70, by=STRANGER)
    late = Process(95, "late", parent_pid=70, thread_id=95, start_time=t(2))
    assert host.opens(2.1, by=late) == "last"


def test_a_recycled_pid_inherits_no_connection(host):
    """A trail for a pid never names the connection of an ended process that had it."""
    host.asks(0, "dead", by=MAIN).asks(0.5, "other", by=STRANGER)
    host.opens(0.1)
    host.execs(1, Process(70, "again", thread_id=70, start_time=t(1)))
    assert host.bound(2, process=70, port=443) == ""
    assert host.bound(0.2, process=70, port=443, past=True) == "dead"


def test_the_pid_of_a_child_without_an_end_is_given_again(host):
    """A child means what its own parent asked, although another process forked the pid before and no exit was seen."""
    host.asks(0, "wrong").asks(0.01, "right", by=STRANGER)
    host.forks(1, 80)
    host.forks(5, 80, by=STRANGER)
    child = Process(80, "child", parent_pid=90, thread_id=80, start_time=t(5))
    assert (host.opens(6, by=child), host.binding.by) == ("right", "parent")


def test_a_fork_leaves_the_past_to_the_process_before(host):
    """A lookup of the past means the process that had the pid then, although a fork has given the pid to another."""
    host.asks(0, "mine", by=MAIN).asks(1, "other", by=STRANGER)
    host.opens(2)
    host.exits(5)
    host.forks(6, 70, by=STRANGER)
    assert host.bound(3, process=70, port=443, past=True) == "mine"
    assert host.scope(3, process=70) == "process"
    assert (host.scope(7, process=70), host.bound(7, process=70, port=443)) == ("any", "")


def test_a_start_is_no_time_of_the_cache(host):
    """The process of a probe with a clock that is ahead is found, also for a time before the first event about it."""
    ahead = Process(70, "app", parent_pid=7, thread_id=70, start_time=t(300))
    again = Process(70, "again", parent_pid=7, thread_id=70, start_time=t(310))
    host.asks(0, "mine", by=ahead).asks(1, "other", by=STRANGER)
    host.opens(2, by=ahead)
    assert host.bound(3, process=70, port=443) == "mine"
    host.asks(12, "again", by=again)
    assert [host.scope(after, process=70) for after in (0.5, 3, 12.5)] == ["process"] * 3
    assert host.image.trails(SHARED, Connection(process=70), at=t(3)).trails[0].dns_root == "mine"
    assert host.image.trails(SHARED, Connection(process=70), at=t(12.5)).trails[0].dns_root == "again"


def test_a_process_is_known_before_the_first_event_about_it(host):
    """The first known process of a pid had it from the beginning: a doubted answer notes no process."""
    host.image.gap(t(0))
    ahead = Process(70, "app", thread_id=70, start_time=t(300))
    host.hears(1, "one", by=ahead)
    host.execs(5, ahead)
    assert host.scope(2, process=70) == "process"


def test_a_query_may_be_applied_before_the_fork_of_its_process(host):
    """The fork of a process that was noted with a later time states its parent, and no other process."""
    child = Process(80, "child", parent_pid=1, thread_id=80, start_time=t(1))
    host.asks(0, "of.parent", OTHER).asks(2, "of.child", by=child)
    host.forks(1, 80)
    assert host.scope(3, process=80) == "process"
    assert (host.opens(4, OTHER, by=child), host.binding.by) == ("of.parent", "parent")


def test_the_questions_of_the_dead_are_evicted_first():
    """Beyond the bound the questions of an ended process give way, although others are older."""
    host = Host(questions=9)  # two queries and an answer count as three until a connection, or the end of the process
    host.asks(0, "old", by=STRANGER).asks(1, "dead.1").asks(2, "dead.2")
    host.exits(2.5)
    host.asks(3, "new", by=CHILD).asks(3.1, "newer", by=CHILD)
    assert host.image.counters["evicted_questions"] == 2
    assert host.opens(4, by=STRANGER) == "old"


def connection(host, after):
    """Return the event of a connection of APP."""
    return Captured(t(after), b"", host.flow(SHARED, 443, 9), APP, {"dst": SHARED, "dst_port": 443})


def test_processes_whose_questions_wait_take_no_name_from_others():
    """A few processes ask and connect elsewhere, until the table is full: others still mean what they asked."""
    host = Host(questions=64)
    for number in range(100):
        greedy = Process(200 + number % 2, thread_id=200 + number % 2, start_time=t(-100))
        host.asks(number / 100, f"g{number}", by=greedy)
        host.connects(number / 100 + 0.005, OTHER, by=greedy)
    assert host.image.binder.waits.held > 60
    for number in range(20):
        modest = Process(300 + number, thread_id=300 + number, start_time=t(-100))
        host.asks(2, f"first{number}", by=modest).asks(3, f"second{number}", by=modest)
        meant = [host.connects(4, by=modest), host.connects(4.1, by=modest)]
        assert meant == [f"first{number}", f"second{number}"]


def test_hosts_have_processes_of_their_own():
    """A process of another host with the same pid and start is another process."""
    host = Host()
    host.asks(0, "one").asks(0.1, "two")
    apply_event(host.image, EFFECTS[NET_TCP_CONNECT], connection(host, 1), live=True, host="elsewhere")
    binding = host.image.binder.bindings.of_socket(("elsewhere", 9))
    assert (binding.name, binding.by) == ("two", "last")


# Sinkholes, doubt


def test_only_its_own_process_names_a_sinkhole(host):
    """A connection to a sinkhole address means only what its own process asked."""
    host.asks(0, "blocked", "127.0.0.1")
    assert [host.opens(0.1, "127.0.0.1", by) for by in (STRANGER, CHILD, APP)] == ["", "", "blocked"]


def test_a_doubted_answer_is_no_candidate(host):
    """An answer without its query names a connection only where no other answer does."""
    host.image.gap(t(0))
    host.asks(1, "sure", by=STRANGER)
    host.hears(2, "forged")
    assert host.opens(3) == "sure"


# As long as the connection is open

DESCRIBED = pytest.mark.parametrize(
    "described", [{"process": 70, "port": 443}, {"source_port": 50000}, {"source_port": 50000, "client": "10.0.0.2"}]
)


@pytest.fixture
def opened():
    """Return a host whose answers are gone after ten seconds, with one open connection."""
    host = Host(grace=1, history=4).asks(0, "one", ttl=5)
    assert host.connects(1) == "one"
    host.concludes(1.1)
    host.image.advance(t(100))
    host.image.sweep(100)
    assert len(host.image) == 0
    return host


@DESCRIBED
def test_an_open_connection_keeps_its_name(opened, described):
    """A binding outlives TTL, grace and history: a trail for the connection has its name, and nothing else."""
    assert opened.bound(100, **described) == "one"
    [trail] = opened.image.trails(SHARED, Connection(**described), now=t(100)).trails
    assert (trail.state, trail.steps, trail.asked, trail.rival) == ("expired", [], [], False)


@DESCRIBED
def test_a_lookup_finds_an_open_connection(opened, described):
    """A lookup of the address with the connection finds its name ten times as long as all that held the answer."""
    connection, late = Connection(**described), t(10 * (5 + 1 + 4) + 1)
    found = opened.image.get(SHARED, now=late, connection=connection)
    assert found == LookupResult([SHARED], ["one"], "one", "expired")
    assert opened.image.get(SHARED, now=late) is None
    assert opened.image.get("one", now=late, connection=connection) is None


@pytest.mark.parametrize("described", [{"process": 71, "port": 443}, {"port": 443}, {"source_port": 1}])
def test_a_lookup_for_another_connection_is_as_before(opened, described):
    """The connection of another process, or an ambiguous one, changes nothing in a lookup."""
    opened.asks(99, "two")
    connection = Connection(**described)
    assert opened.image.get(SHARED, now=t(100), connection=connection) == opened.image.get(SHARED, now=t(100))


def test_a_lookup_puts_the_name_of_the_connection_first(host):
    """The bound name is the root, the live chain from it follows, and then the other names."""
    host.asks(0, "one").asks(0.1, "two")
    assert host.opens(1) == "one"
    assert host.image.get(SHARED, now=t(2)).dns_queries == ["two", "one"]
    found = host.image.get(SHARED, now=t(2), connection=Connection(source_port=50000))
    assert (found.dns_root, found.dns_queries, found.state) == ("one", ["one", "two"], "live")


def test_a_lookup_after_the_close_finds_nothing(opened):
    """The close removes the name from lookups of now, and leaves it in lookups of before."""
    opened.closes(101)
    connection = Connection(source_port=50000)
    assert opened.image.get(SHARED, now=t(102), connection=connection) is None
    past = opened.image.get(SHARED, at=t(100.5), connection=connection)
    assert (past.dns_root, past.history) == ("one", True)
    before = opened.image.get(SHARED, at=t(3), connection=connection)
    assert (before.dns_root, before.history) == ("one", False)


def test_a_lookup_for_a_recycled_pid_finds_nothing(opened):
    """A process with the pid of an ended one has no part in its connection."""
    opened.exits(101)
    again = Process(70, "other", parent_pid=7, thread_id=70, start_time=t(102))
    opened.execs(102, again)
    connection = Connection(process=70, port=443)
    assert opened.image.get(SHARED, now=t(103), connection=connection) is None
    assert opened.connects(104, by=again) == ""
    assert opened.image.get(SHARED, now=t(105), connection=connection) is None


def test_an_open_connection_names_only_itself(opened):
    """A description that fits other connections as well finds no binding, nor does that of another connection."""
    for described in ({}, {"port": 443}, {"process": 70}, {"client": "10.0.0.2"}, {"process": 71, "port": 443}):
        assert opened.bound(100, **described) == ""
    assert opened.bound(100, source_port=50001) == opened.bound(100, process=70, port=80) == ""
    for other in ({"host": "elsewhere"}, {"container": "c2"}, {"client": "10.9.9.9"}):
        assert opened.bound(100, process=70, port=443, **other) == ""


@DESCRIBED
@pytest.mark.parametrize("end", ["closes", "exits"])
def test_the_end_removes_the_binding(opened, described, end):
    """A close, or the end of the process, removes the binding; the past keeps it until the history is over."""
    getattr(opened, end)(101)
    assert opened.bound(102, **described) == ""
    assert opened.bound(100.9, past=True, **described) == "one"
    opened.connects(106, OTHER)
    assert len(opened.image.binder.bindings) == 1
    assert opened.bound(100.9, past=True, **described) == ""


def test_a_connection_is_open_from_the_instant_of_its_start_until_that_of_its_end(host):
    """A lookup of the past finds it at the time of its start, and no longer at the time of its close."""
    host.asks(0, "one")
    host.opens(1)
    host.closes(2)
    found = [host.bound(after, past=True, process=70, port=443) for after in (0.999999, 1, 1.999999, 2)]
    assert found == ["", "one", "one", ""]


def test_a_failed_attempt_is_no_open_connection(host):
    """A connection that was refused is open no longer."""
    host.asks(0, "one")
    host.connects(1)
    host.concludes(1.1, connected=False)
    assert [*host.image.binder.bindings.open_after(0)] == []
    assert host.bound(2, process=70, port=443) == ""


def test_a_socket_that_connects_again_has_one_connection(host):
    """A second connect of a socket ends its connection before."""
    host.asks(0, "one", OTHER).asks(0.1, "two")
    host.connects(1, OTHER)
    host.apply(NET_TCP_CONNECT, 2, host.flow(SHARED, 443), APP, dst=SHARED, dst_port=443)
    assert [binding.name for binding in host.image.binder.bindings.open_after(0)] == ["two"]


def test_the_connection_that_ended_first_is_evicted_first():
    """Beyond the bound ended connections give way before open ones."""
    host = Host(connections=2)
    host.opens(0)
    host.opens(1)
    host.closes(2)
    host.opens(3)
    assert [binding.stamp for binding in host.image.binder.bindings.open_after(0)] == [t(0), t(3)]
    assert host.image.counters["evicted_bindings"] == 1
    bindings = host.image.binder.bindings
    assert [bindings.remembers(t(after)) for after in (1, 2)] == [False, True]
    host.opens(4)
    assert [bindings.remembers(t(after)) for after in (3, 4)] == [False, True], "one that was open is evicted"


# Server names


def says(host, after, name, evidence="sni"):
    """Let the last connection send a server name."""
    host.apply(NET_SERVER_NAME, after, host.flow(SHARED, 443), APP, server_name=name, evidence=evidence)


def test_a_name_that_the_connection_sent_is_the_truth(host):
    """From the time on at which the connection sent a name, a trail names it so, and states why."""
    host.asks(0, "one").asks(0.1, "true").opens(1)
    says(host, 2, "true")
    described = {"process": 70, "port": 443}
    assert host.bound(1.5, past=True, **described) == "one"
    first, *others = host.image.trails(SHARED, Connection(**described), now=t(3)).trails
    assert (first.dns_root, first.reasons[0]) == ("true", "the connection itself sent this server name (sni)")
    assert [trail.dns_root for trail in others] == ["one"]


def test_a_sent_name_needs_no_answer(host):
    """A name that the connection sent comes first even if nobody asked for it."""
    host.asks(0, "one").opens(1)
    says(host, 2, "unasked", "host")
    trails = host.image.trails(SHARED, Connection(process=70, port=443), now=t(3)).trails
    assert [(trail.dns_root, trail.rival) for trail in trails] == [("unasked", False), ("one", True)]


def test_the_names_of_earlier_connections_change_no_binding(host):
    """A connection means what its process asked, whatever names its process sent to this port before."""
    host.asks(0, "old").opens(1)
    says(host, 1.1, "old")
    host.closes(2)
    host.asks(3, "old", by=STRANGER).asks(4, "new")
    assert host.opens(5) == "new"
    assert host.bound(5, process=70, port=443) == "new"
