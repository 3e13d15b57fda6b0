"""The engine: passes each event to the signatures that select it, and takes their findings."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple, ParamSpec

import msgspec
import structlog

from dnstrail.captured import Captured
from dnstrail.datasource import DataSources
from dnstrail.errors import DataSourceMissing, DnstrailError, SettingsError, Unavailable
from dnstrail.events import (
    FINDINGS_LOST,
    NAMES_UNAVAILABLE,
    REFUSED_EVENTS,
    SIGNATURE_ERRORS,
    SIGNATURE_MUTED,
    SIGNATURE_UNAVAILABLE,
    Event,
)
from dnstrail.protocol import PROBES
from dnstrail.signature import Finding, Signal, Signature, SignatureContext, SignatureMetadata
from dnstrail_signatures.detection.stateful_signature import StatefulSignature
from dnstrail_signatures.engine.errors import described, place_of, text_of
from dnstrail_signatures.engine.selection import Selecting, SelectingByMessage
from dnstrail_signatures.engine.time_budget import TimeBudget
from dnstrail_signatures.findings import FindingIds
from dnstrail_signatures.loading.scope import CommonSettings
from dnstrail_signatures.loading.signature_settings import Settings, SignatureSettings

_SEVERITY = "Severity"  # the property of tracee's metadata
_CACHE = "tracee", "dns"  # the data source that only a run without a cache lacks
_DEFAULT = SignatureSettings()
RELOAD = "reload"  # the signal to signatures that run on after a reload
#: findings on findings -> the finding is reported, but not as an event: `too_deep`
MAX_DEPTH = 5  # a finding is an event too, and may lead to further findings
_Args = ParamSpec("_Args")


class Prepared(NamedTuple):
    """Signatures that were started, or run already, and their settings: to go on with. The faults of those left out."""

    signatures: tuple[Signature, ...]
    settings: Settings
    left_out: dict[type[Signature], str]


class Engine:
    """The signatures of one worker. Those that select an event follow from its name and origin, and are remembered.

    No signature can stop the worker or another signature: an error is counted (`errors` by signature), and logged
    the first time that it happens at a place. A signature that exceeds the time budget again and again is muted for a
    while. `findings` counts findings by signature, and `suppressed` those that the settings suppress.
    `unavailable` counts the events that a signature gave up, since no cache answered its lookup. `facts` states that
    this run receives the facts of a cache.

    A signature that does not start is an error if it is among those `asked` for, or refuses its settings. Any other one
    is left out, and has a fault, unless it lacks its data source because a user chose to run without a cache.
    """

    def __init__(
        self,
        classes: Iterable[type[Signature]],
        data_sources: DataSources,
        sink: Callable[[Finding], None],
        budget: TimeBudget | None = None,
        settings: Settings | None = None,
        probes: int = PROBES,
        asked: Collection[type[Signature]] = (),
        state: Path | None = None,
        *,
        facts: bool = True,
    ) -> None:
        self.budget = budget or TimeBudget()
        self.counters: Counter[str] = Counter()
        self.errors: Counter[str] = Counter()
        self.findings: Counter[str] = Counter()
        self.suppressed: Counter[str] = Counter()
        self.unavailable: Counter[str] = Counter()
        self._settings = settings or {}
        self.signatures: list[Signature] = []
        self._selecting: dict[tuple[str, str], Selecting] = {}  # by name and origin of an event
        self._by_message: dict[tuple[str, str], SelectingByMessage] = {}
        self._sink = sink
        self._depth = 0
        self._ids = FindingIds()
        self._logged: set[tuple[str, str]] = set()
        self._log = structlog.get_logger()
        self._data_sources = data_sources
        self._probes = probes
        self._state = state
        self._facts = facts
        self._left_out: dict[type[Signature], str] = {}  # with the fault of each
        for cls in classes:
            self._start(cls, asked)

    @property
    def faults(self) -> dict[str, str]:
        """Why signatures do not run, or run otherwise than their settings state, by the name that findings show."""
        left_out = {_name_of(cls): fault for cls, fault in self._left_out.items() if fault}
        # A signature may state the error itself, which compiled code refuses as an attribute.
        faults = ((one.metadata.event_name, getattr(one, "fault", "")) for one in self.signatures)
        return left_out | {name: text_of(fault) for name, fault in faults if fault}

    @property
    def evicted(self) -> dict[str, int]:
        """The entries that signatures gave up at the bounds of their state, by the name that findings show."""
        found: dict[str, int] = {}
        for one in self.signatures:
            if isinstance(one, StatefulSignature):
                self._guard(one, _note_evicted, one, found)
        return found

    def on_event(self, event: Event) -> None:
        """Pass an event to the signatures that select it."""
        self.counters["events"] += 1
        kind = event.event_name, event.origin
        selecting = self._selecting.get(kind)
        if selecting is None:
            selecting = self._selecting_now(kind, event)
        if selecting:
            self._pass(selecting, event)

    def repeat(self, event: Event) -> None:
        """Expect an event again that may have been passed on before: its findings get the ids that they had."""
        self._ids.repeat(event)

    def on_signal(self, signal: Signal) -> None:
        """Pass a signal to all signatures."""
        for signature in self.signatures:
            self._guard(signature, signature.on_signal, signal)

    def on_time(self, start: str, now: int) -> None:
        """Pass the clock of a run of a probe to all signatures."""
        for signature in self.signatures:
            self._guard(signature, signature.on_time, start, now)

    @property
    def by_signature(self) -> dict[str, Counter[str]]:
        """The counters of what the worker reports of its signatures, by signature."""
        return {
            "errors": self.errors,
            "over_budget": self.budget.exceeded,
            "muted": self.budget.missed,
            "suppressed": self.suppressed,
            "unavailable": self.unavailable,
            "evicted": Counter(self.evicted),
        }

    def close(self) -> None:
        """Close all signatures."""
        for signature in self.signatures:
            self._guard(signature, signature.close)

    def prepare(
        self, classes: Iterable[type[Signature]], settings: Settings, asked: Collection[type[Signature]] = ()
    ) -> Prepared:
        """Start what runs not yet with these settings, in a thread beside the events.

        A signature that was left out stays so, unless it is `asked` for now.

        Raises:
            SettingsError: a signature does not start.
        """
        running = {type(signature): signature for signature in self.signatures}
        prepared: list[Signature] = []
        left_out: dict[type[Signature], str] = {}
        for cls in classes:
            one, own = running.get(cls), settings[cls.metadata.id].own or cls.settings
            try:
                prepared.append(one if one is not None and one.settings == own else self._started(cls, own))
            except BaseException as error:
                if cls in self._left_out and not _is_fatal(cls, error, asked):
                    left_out[cls] = self._left_out[cls]
                    continue
                for begun in prepared:
                    if begun not in self.signatures:
                        self._guard(begun, begun.close)
                raise _not_started(cls, error) from error
        return Prepared(tuple(prepared), settings, left_out)

    def adopt(self, prepared: Prepared) -> None:
        """Go on with other signatures, and signal the reload to those that stay.

        One that replaces an instance with other settings takes over what still applies of its state.
        """
        before, self.signatures = self.signatures, [*prepared.signatures]
        self._settings, self._left_out = prepared.settings, prepared.left_out
        self._by_message.clear()
        self._selecting.clear()
        former = {type(signature): signature for signature in before}
        for signature in self.signatures:
            replaced = former.get(type(signature), signature)
            self._set_scope(signature)
            if replaced is not signature and isinstance(signature, StatefulSignature):
                self._guard(signature, signature.take_over, replaced)
        for signature in before:
            if signature in self.signatures:
                self._reload(signature)
            else:
                self._guard(signature, signature.close)

    def _reload(self, signature: Signature) -> None:
        """Signal the reload to a signature that stays. If it raises, it goes on with what it had, and has a fault."""
        signature.fault = ""
        try:
            signature.on_signal(Signal(RELOAD))
        except BaseException as error:  # noqa: BLE001 - as in `_guard`
            name, signature.fault = signature.metadata.event_name, text_of(error) or type(error).__name__
            self.counters["errors"] += 1
            self.errors[name] += 1
            place = place_of(type(signature), error)
            self._log.error("reload_refused", signature=name, reason=signature.fault, at=place)

    def _start(self, cls: type[Signature], asked: Collection[type[Signature]]) -> None:
        try:
            self.signatures.append(self._started(cls, self._settings_of(cls.metadata.id).own))
            self._set_scope(self.signatures[-1])
        except (Exception, SystemExit) as error:
            if _is_fatal(cls, error, asked):
                raise _not_started(cls, error) from error
            is_chosen = isinstance(error, DataSourceMissing) and self._data_sources.get(*_CACHE) is None
            self._left_out[cls] = "" if is_chosen else str(_not_started(cls, error))
            self.counters["not_started"] += 1
            reason, place = text_of(error), place_of(cls, error)
            self._log.error("signature_not_started", signature=cls.__name__, error=reason, at=place)

    def _started(self, cls: type[Signature], own: msgspec.Struct | None) -> Signature:
        signature = cls()
        if own is not None:
            vars(signature)["settings"] = own
        log = self._log.bind(signature=cls.metadata.event_name)
        one = SignatureContext(self._on_finding, self._data_sources, log, self._probes, self._state, self._facts)
        signature.init(one)
        return signature

    def _set_scope(self, signature: Signature) -> None:
        """Let a signature with state keep the events apart on which the settings suppress its findings."""
        if isinstance(signature, StatefulSignature):
            common = self._settings_of(signature.metadata.id).common
            signature.suppresses = common.suppresses if common.can_suppress else None

    def _selecting_now(self, kind: tuple[str, str], event: Event) -> Selecting:
        """Return the signatures that select an event, and remember them by its name, its origin, and its message."""
        known = self._by_message.get(kind)
        if known is None:
            known = SelectingByMessage(self.signatures, event)
            if not known.by_message:
                selecting = self._selecting[kind] = known.of(event)
                return selecting
            self._by_message[kind] = known
        return known.of(event)

    def _pass(self, selecting: Selecting, event: Event) -> None:
        """Pass an event to signatures, each within its time budget."""
        budget = self.budget
        muted, charge = budget.muted, budget.charge
        budget.begin()
        for name, signature in selecting:
            if name in muted and budget.mutes(name):
                continue
            try:
                signature.on_event(event)
            except BaseException as error:  # noqa: BLE001 - as in `_guard`, without its call for each event
                self._note_error(signature, error)
            charge(name)

    def _guard(
        self, signature: Signature, call: Callable[_Args, None], *args: _Args.args, **kwargs: _Args.kwargs
    ) -> None:
        try:
            call(*args, **kwargs)
        except BaseException as error:  # noqa: BLE001 - one bad signature must not stop the others: no stop raises here
            self._note_error(signature, error)

    def _note_error(self, signature: Signature, error: BaseException) -> None:
        name = signature.metadata.event_name
        if isinstance(error, Unavailable):
            self.counters["unavailable"] += 1
            self.unavailable[name] += 1
            self._log_once("signature_unavailable", signature, error)
        else:
            self.counters["errors"] += 1
            self.errors[name] += 1
            self._log_once("signature_failed", signature, error)

    def _log_once(self, event: str, signature: Signature, error: BaseException) -> None:
        """Log the first error of each place: an error of every event must not fill the log."""
        name, place = signature.metadata.event_name, place_of(type(signature), error)
        if (name, place) not in self._logged:
            self._logged.add((name, place))
            self._log.error(event, signature=name, error=described(error), at=place)

    def _on_finding(self, finding: Finding) -> None:
        settings = self._settings_of(finding.metadata.id).common
        if settings.suppresses(finding.event):
            self.suppressed[finding.metadata.event_name] += 1
            return
        # Findings travel as JSON. Data that cannot is refused here, as an error of the signature that reported it.
        data = msgspec.json.decode(msgspec.json.encode(finding.data, enc_hook=repr))
        finding = replace(finding, data=data, id=self._ids.of(finding), metadata=_rated(finding.metadata, settings))
        self.counters["findings"] += 1
        self.findings[finding.metadata.event_name] += 1
        passed = self.budget.begin()
        try:
            self._hand_on(finding)
        finally:
            self.budget.resume(passed)

    def _settings_of(self, signature: str) -> SignatureSettings:
        return self._settings.get(signature, _DEFAULT)

    def _hand_on(self, finding: Finding) -> None:
        """Deliver a finding, and pass it to the signatures that select it."""
        self._sink(finding)
        if self._depth >= MAX_DEPTH:
            self.counters["too_deep"] += 1
            return
        cause = finding.event
        chained = Event(
            finding.metadata.event_name,
            Captured(cause.captured.timestamp, process=cause.captured.process),
            mark=cause.mark,
            host_name=cause.host_name,
            args=finding.data,
            coverage=cause.coverage,
            difference=cause.difference,
            place=("finding", finding.id),
        )
        self.repeat(chained)  # its cause may be
        self._depth += 1
        try:
            self.on_event(chained)
        finally:
            self._depth -= 1


def _is_fatal(cls: type[Signature], error: BaseException, asked: Collection[type[Signature]]) -> bool:
    """Return whether a signature that does not start ends the worker: asked for by a user, or with wrong settings."""
    return cls in asked or isinstance(error, SettingsError)


def _not_started(cls: type[Signature], error: BaseException) -> SettingsError:
    reason = text_of(error) if isinstance(error, DnstrailError) else described(error)
    name = f"{cls.metadata.event_name} ({cls.metadata.id})" if hasattr(cls, "metadata") else cls.__name__
    return SettingsError(f"signature {name} does not start: {reason}")


def _note_evicted(signature: StatefulSignature, found: dict[str, int]) -> None:
    if count := signature.evicted:
        found[signature.metadata.event_name] = count


def _name_of(cls: type[Signature]) -> str:
    """Return the name that the findings of a signature show, or the name of its class if it has no metadata."""
    return cls.metadata.event_name if hasattr(cls, "metadata") else cls.__name__


def _rated(metadata: SignatureMetadata, settings: CommonSettings) -> SignatureMetadata:
    """Return the metadata of a finding with the severity of the settings, if they state one."""
    if settings.severity is None:
        return metadata
    return replace(metadata, properties={**metadata.properties, _SEVERITY: settings.severity})


def all_losses(on_the_way: Mapping[str, int], engine: Engine, unnamed: int, undelivered: int) -> dict[str, int]:
    """Return the losses by event name or reason.

    `unnamed` connections have no names, since no cache answered. `undelivered` findings found no room at the receiver.
    """
    reasons = {
        SIGNATURE_ERRORS: engine.counters["errors"],
        SIGNATURE_MUTED: engine.budget.missed.total(),
        SIGNATURE_UNAVAILABLE: engine.unavailable.total(),
        NAMES_UNAVAILABLE: unnamed,
        FINDINGS_LOST: undelivered,
        REFUSED_EVENTS: engine.counters[REFUSED_EVENTS],
    }
    return {**on_the_way, **{reason: count for reason, count in reasons.items() if count}}
