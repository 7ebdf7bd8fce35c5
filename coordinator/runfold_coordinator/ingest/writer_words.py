"""What one writer has said about its run, as far as its records are here. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from runfold.protocol.identity import Identity
from runfold.protocol.records import ConfigRecord, MetricRecord, RunRecord
from runfold_coordinator.edits.said import Node, Place


@dataclass(slots=True)
class WriterWords:
    """What one writer has said about its run."""

    writer_pk: int
    writer_id: str
    #: Of its first record; the identity's start when it is known.
    started_unix_ns: int = 0
    identity: Identity | None = None
    name: str | None = None
    notes: str | None = None
    tags: tuple[str, ...] | None = None
    config: dict[str, Any] = field(default_factory=dict)
    deleted: set[str] = field(default_factory=set)
    definitions: list[dict[str, Any]] = field(default_factory=list)
    #: Equal for writers that said the same; None until asked for.
    config_digest: bytes | None = None
    definitions_digest: bytes | None = None
    #: Where it said what: with init(); name, notes and tags; config keys that it changed later.
    first_place: Place | None = None
    field_places: dict[str, Place] = field(default_factory=dict)
    config_places: dict[str, Place] = field(default_factory=dict)

    @property
    def order(self) -> tuple[int, int, str]:
        """By rank, unranked last; then by start."""
        rank = self.identity.rank if self.identity is not None and self.identity.rank is not None else 2**62
        return (rank, self.started_unix_ns, self.writer_id)

    @property
    def begins_unix_ns(self) -> int:
        """Its place in time: when it started, but after the writers that it goes on from."""
        branch = None if self.identity is None else self.identity.branch
        return self.started_unix_ns if branch is None else branch.begins_at(self.started_unix_ns)

    @property
    def node(self) -> Node | None:
        """The node that it runs on; None while its identity is not known."""
        found = self.identity
        return None if found is None else (found.host or "", found.boot_id or "")

    def hear(self, payload: object, place: Place = Place(0, 0)) -> None:
        """Take a record's decoded payload, and where it was said; records come in seq order."""
        if isinstance(payload, Identity):
            self.identity = payload
            self.started_unix_ns = payload.started_unix_ns or self.started_unix_ns
            self.name, self.notes = payload.name, payload.notes
            self.tags = payload.tags or None
            self.config = dict(payload.config)
            self.config_digest = None
            self.first_place = place = place._replace(is_first=True)
            self.field_places = dict.fromkeys(("name", "notes", "tags"), place)
        elif isinstance(payload, RunRecord):
            self.name = payload.name if payload.name is not None else self.name
            self.notes = payload.notes if payload.notes is not None else self.notes
            self.tags = payload.tags if payload.tags is not None else self.tags
            said = [name for name in ("name", "notes", "tags") if getattr(payload, name) is not None]
            self.field_places |= dict.fromkeys(said, place)
        elif isinstance(payload, ConfigRecord):
            for key in payload.delete:
                self.config.pop(key, None)
                self.deleted.add(key)
            self.config.update(payload.set or {})
            self.deleted.difference_update(payload.set or {})
            self.config_places |= dict.fromkeys((*payload.delete, *(payload.set or {})), place)
            self.config_digest = None
        elif isinstance(payload, MetricRecord):
            self.definitions.append(payload.to_map())
            self.definitions_digest = None
