"""An edit of a run: what somebody said through the API, and what the run's processes had said by then. Pure.

The rule for what counts (docs/decisions/0015-edits.md): of each key, what was said last. A record that was
stored when the edit was taken came before it; of any other one, times decide, by the server's clock.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple, Self

from runfold.protocol.keypath import KeyPath

#: Fields of a run that can be edited; `tags` is a list of texts, the others are texts or None.
FIELDS = ("name", "notes", "tags", "group", "job_type")

#: ("set", path, value) or ("del", path), as in a SUMMARY record.
SummaryChange = tuple[str, KeyPath, Any] | tuple[str, KeyPath]
#: A node, by which its clock is known: (host, boot id).
Node = tuple[str, str]


class Place(NamedTuple):
    """Where a process said something: its record's seq and time, by the clock of its node (unix ns)."""

    seq: int
    t_ns: int
    #: With init(), as against later.
    is_first: bool = False


@dataclass(frozen=True, slots=True)
class Heard:
    """How far a writer was, for an edit: `is_over` where nothing more can come of it."""

    writer_pk: int
    last_seq: int
    newest_ns: int
    node: Node
    is_over: bool


@dataclass(frozen=True, slots=True)
class Seen:
    """What was stored of a run's writers when an edit was taken, as far as times don't tell it.

    A thousand ranks are not to be kept with each edit: of a writer whose newest record was said before the
    edit by the server's clock, time alone decides what came later. Only those are named whose clock is ahead.

    Attributes:
        ahead: By writer_pk, the highest seq that was stored.
        floor: Of all that could still say something, the lowest seq that was stored: below is nothing new.
        newest_pk: The highest writer_pk; of later writers everything is new.
    """

    ahead: Mapping[int, int] = field(default_factory=dict)
    floor: int = 0
    newest_pk: int = 0

    @classmethod
    def of(cls, writers: Sequence[Heard], t_ns: int, clocks: Mapping[Node, int]) -> Self:
        """Return what is to be kept of these writers with an edit taken at `t_ns`."""
        return cls(
            {
                one.writer_pk: one.last_seq
                for one in writers
                # Of a node that is not known yet the clock isn't either.
                if one.newest_ns + clocks.get(one.node, 0) > t_ns or one.node == ("", "")
            },
            min((one.last_seq for one in writers if not one.is_over), default=0),
            max((one.writer_pk for one in writers), default=0),
        )

    def upto(self, writer_pk: int) -> int:
        """Return a seq up to which nothing of a writer is new; what comes after it may be."""
        return max(self.ahead.get(writer_pk, 0), self.floor if writer_pk <= self.newest_pk else 0)

    def to_state(self) -> list[Any]:
        """Return what is stored."""
        return [[list(pair) for pair in self.ahead.items()], self.floor, self.newest_pk]

    @classmethod
    def from_state(cls, state: Sequence[Any]) -> Self:
        """Return what to_state() made."""
        ahead, floor, newest_pk = state
        return cls(dict(map(tuple, ahead)), floor, newest_pk)


@dataclass(frozen=True, slots=True)
class Edit:
    """One request's changes. What a later edit says anew is taken out of it (`without`)."""

    t_ns: int
    by: str = ""
    pk: int = 0
    fields: Mapping[str, Any] = field(default_factory=dict)
    config: Mapping[str, Any] = field(default_factory=dict)
    config_deleted: tuple[str, ...] = ()
    summary: tuple[SummaryChange, ...] = ()
    #: What the processes had said of these fields and config keys; absent: nothing.
    fields_before: Mapping[str, Any] = field(default_factory=dict)
    config_before: Mapping[str, Any] = field(default_factory=dict)
    #: What was stored of the run's writers.
    seen: Seen = field(default_factory=Seen)
    #: What to add to times of nodes whose clocks differ from the server's, ns.
    clocks: Mapping[Node, int] = field(default_factory=dict)

    @property
    def config_keys(self) -> set[str]:
        """The config keys that it sets or deletes."""
        return {*self.config, *self.config_deleted}

    @property
    def is_empty(self) -> bool:
        """Whether nothing is left of it."""
        return not (self.fields or self.config or self.config_deleted or self.summary)

    def is_before(self, place: Place, writer_pk: int, node: Node | None) -> bool:
        """Tell whether what a writer said there came after this edit."""
        if place.seq <= self.seen.ahead.get(writer_pk, 0):
            return False
        return self.is_later(place.t_ns, node)

    def is_later(self, t_ns: int, node: Node | None) -> bool:
        """Tell whether a node's clock said this time after the server took the edit."""
        return t_ns + (0 if node is None else self.clocks.get(node, 0)) > self.t_ns

    def without(self, later: Later) -> Edit:
        """Return what is left of it beside a later one."""
        gone = later.config_keys
        return replace(
            self,
            fields={name: value for name, value in self.fields.items() if name not in later.fields},
            fields_before={n: value for n, value in self.fields_before.items() if n not in later.fields},
            config={key: value for key, value in self.config.items() if key not in gone},
            config_before={key: value for key, value in self.config_before.items() if key not in gone},
            config_deleted=tuple(key for key in self.config_deleted if key not in gone),
            summary=tuple(change for change in self.summary if not later.covers(tuple(change[1]))),
        )

    def to_map(self) -> dict[str, Any]:
        """Return what is stored, beside its time and who said it."""
        return {
            "fields": dict(self.fields),
            "config": dict(self.config),
            "config_deleted": list(self.config_deleted),
            "summary": [[change[0], list(change[1]), *change[2:]] for change in self.summary],
            "fields_before": dict(self.fields_before),
            "config_before": dict(self.config_before),
            "seen": self.seen.to_state(),
            "clocks": [[host, boot_id, ns] for (host, boot_id), ns in self.clocks.items()],
        }

    @classmethod
    def from_map(cls, found: Mapping[str, Any], *, t_ns: int, by: str, pk: int) -> Edit:
        """Return the edit that was stored."""
        return cls(
            t_ns=t_ns,
            by=by,
            pk=pk,
            fields=found["fields"],
            config=found["config"],
            config_deleted=tuple(found["config_deleted"]),
            summary=tuple(_change(change) for change in found["summary"]),
            fields_before=found["fields_before"],
            config_before=found["config_before"],
            seen=Seen.from_state(found["seen"]),
            clocks={(host, boot_id): ns for host, boot_id, ns in found["clocks"]},
        )


@dataclass(frozen=True, slots=True)
class Later:
    """What an edit says anew, to be looked up in: two edits may have ten thousand keys each."""

    fields: frozenset[str]
    config_keys: frozenset[str]
    paths: frozenset[KeyPath]

    def covers(self, path: KeyPath) -> bool:
        """Tell whether it says something of this place of the summary, or of one above."""
        return any(path[:length] in self.paths for length in range(1, len(path) + 1))


def squeeze(earlier: Iterable[Edit], new: Edit) -> tuple[list[Edit], list[int]]:
    """Return the earlier edits that change by the new one, and the keys of those of which nothing is left."""
    changed, gone = [], []
    later = Later(frozenset(new.fields), frozenset(new.config_keys), _paths(new))
    for edit in earlier:
        left = edit.without(later)
        if left.is_empty:
            gone.append(edit.pk)
        elif left != edit:
            changed.append(left)
    return changed, gone


def _paths(edit: Edit) -> frozenset[KeyPath]:
    return frozenset(tuple(change[1]) for change in edit.summary)


def _change(stored: Sequence[Any]) -> SummaryChange:
    path = tuple(stored[1])
    return ("set", path, stored[2]) if stored[0] == "set" else ("del", path)
