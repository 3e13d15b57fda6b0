"""The names that connections mean: every question and connection that was ever seen (docs/inside/image.md)."""

from __future__ import annotations

from dataclasses import dataclass, field

Process = tuple[int, int]  # pid and start


@dataclass(eq=False)
class Question:
    """A question whose answer gave addresses to its asker, until their end."""

    name: str
    process: Process
    thread: int
    asked: int
    answered: int
    end: int
    addresses: frozenset[str]
    spent: bool = False

    def gives(self, address: str, at: int) -> bool:
        """Return whether its answer had given an address by then, and the address was live."""
        return address in self.addresses and self.answered <= at < self.end


@dataclass
class NaiveBinding:
    """Questions in the order of their answers; `parents` holds the parent of each process."""

    questions: list[Question] = field(default_factory=list)
    parents: dict[Process, Process] = field(default_factory=dict)

    def connect(self, at: int, process: Process, thread: int, address: str) -> str:
        """Return the name that a connection means, and spend its question."""
        given = [one for one in self.questions if one.gives(address, at)]
        waiting = [one for one in given if not one.spent]
        own = [one for one in waiting if one.process == process]
        of_parent = [one for one in waiting if one.process == self.parents.get(process)]
        for candidates in ([one for one in own if one.thread == thread], own, of_parent):
            if candidates:
                oldest = min(candidates, key=lambda one: one.asked)
                oldest.spent = True
                return oldest.name
        last = [one for one in given if one.process == process] or given
        return last[-1].name if last else ""
