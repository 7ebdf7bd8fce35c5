"""Reads of what the agents keep of their nodes: who watched whom, inventories, devices of writers."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import sqlalchemy as sa

from runfold.protocol.errors import ProtocolError
from runfold.protocol.evidence import DEVICES
from runfold.protocol.keypath import encode_path
from runfold.protocol.records import NodeRecord, RecordKind
from runfold_coordinator.store import tables as t
from runfold_coordinator.store.catalogue_reads import CatalogueReads, is_deleted, unpack_stored, writer_row
from runfold_coordinator.store.model import WriterRow
from runfold_coordinator.store.names import escape_key, key_digest
from runfold_coordinator.store.slices import in_slices

#: Every sample of a writer has it; the agent that sampled a writer is found by it.
WATCHED_KEY = "proc.cpu.threads"
#: Devices of one node, and of one process.
MAX_DEVICES = 1024
#: What is a number of an inventory's device, where its driver told it.
_NUMBERS = frozenset({"index", "mig", "memory_bytes"})


class NodeReads(CatalogueReads):
    """Every call sees one committed state."""

    def watchers_of(self, writers: Sequence[WriterRow]) -> list[WriterRow]:
        """Return the agents' writers (role "node") that sampled one of these processes, oldest first."""
        boots = {writer.boot_id for writer in writers if writer.boot_id is not None}
        hosts = {writer.host for writer in writers if writer.host is not None}
        found = self._watchers_at(boots, hosts, writers)
        # A host name of the user's choice is not the agent's; a boot is a machine's whatever its name.
        return found or self._watchers_at(boots, None, writers)

    def _watchers_at(
        self, boots: Collection[str], hosts: Collection[str] | None, writers: Sequence[WriterRow]
    ) -> list[WriterRow]:
        c = t.writers.c
        here: list[WriterRow] = []
        for some in in_slices(sorted(boots)):
            at = [
                c.role == "node",
                c.boot_id.in_(some),
                *([] if hosts is None else [c.host.in_(sorted(hosts))]),
            ]
            here += self._writers(sa.select(t.writers).where(*at))
        if not here:
            return []
        # Several containers of one machine have one boot, several agents one host: whoever has our keys.
        digests = [key_digest(escape_key(watched_key(writer.writer_id))) for writer in writers]
        key_pks: list[int] = []
        for asked in in_slices(digests):
            rows = self.fetch(sa.select(t.keys.c.key_pk).where(t.keys.c.digest.in_(asked)))
            key_pks += [row.key_pk for row in rows]
        run_pks: set[int] = set()
        k = t.run_keys.c
        for runs in in_slices(sorted(writer.run_pk for writer in here)):
            for pks in in_slices(sorted(key_pks)):
                rows = self.fetch(sa.select(k.run_pk).where(k.run_pk.in_(runs), k.key_pk.in_(pks)).distinct())
                run_pks.update(row.run_pk for row in rows)
        kept = [writer for writer in here if writer.run_pk in run_pks]
        return sorted(kept, key=lambda writer: (writer.started_unix_ns, writer.writer_id))

    def newest_watchers(self, limit: int, *, host: str | None = None) -> list[WriterRow]:
        """Return the agents' newest writer of each (host, boot), last heard of first."""
        c = t.writers.c
        newest = (
            sa.select(sa.func.max(c.started_unix_ns).label("started"), c.host, c.boot_id)
            .where(c.role == "node", *([] if host is None else [c.host == host]))
            .group_by(c.host, c.boot_id)
            .subquery()
        )
        statement = (
            sa.select(t.writers)
            .join(
                newest,
                sa.and_(
                    c.host == newest.c.host,
                    c.boot_id == newest.c.boot_id,
                    c.started_unix_ns == newest.c.started,
                ),
            )
            .where(c.role == "node")
            .order_by(c.last_seen_unix_s.desc(), c.writer_pk.desc())
            .limit(limit)
        )
        return self._writers(statement)

    def live_writers_at(self, hosts: Collection[str]) -> list[tuple[WriterRow, tuple[str, str, str]]]:
        """Return the processes on these hosts that have not ended, with the paths of their runs."""
        c = t.writers.c
        found = []
        for some in in_slices(sorted(set(hosts))):
            statement = (
                sa.select(t.writers, t.runs.c.entity, t.runs.c.project, t.runs.c.run_id)
                .join(t.runs, t.runs.c.run_pk == c.run_pk)
                .where(c.role == "process", c.host.in_(some), c.state.in_(("running", "preempting")))
                .where(is_deleted(False))
                .order_by(c.started_unix_ns, c.writer_id)
            )
            found += [
                (writer_row(row, unpack_stored(row.identity)), (row.entity, row.project, row.run_id))
                for row in self.fetch(statement)
            ]
        return found

    def inventories(self, writer_pks: Collection[int]) -> dict[int, NodeRecord]:
        """Return by writer_pk what agents' writers said last of their node; some never do."""
        c = t.records.c
        found: dict[int, NodeRecord] = {}
        for some in in_slices(sorted(set(writer_pks))):
            rows = self.fetch(
                sa.select(c.writer_pk, c.payload)
                .where(c.writer_pk.in_(some), c.kind == RecordKind.NODE)
                .order_by(c.writer_pk, c.seq)
            )
            for row in rows:
                try:
                    record = NodeRecord.unpack(bytes(row.payload))
                    found[row.writer_pk] = replace(record, gpus=sane_devices(record.gpus))
                except ProtocolError:
                    continue  # of a later version, or damaged: the one before stands
        return found

    def devices(self, writer_ids: Collection[str]) -> dict[str, list[dict[str, Any]]]:
        """Return what was testified of each writer's devices: {"gpus": [uuid, ...], "by"}, oldest first."""
        c = t.evidence.c
        found: dict[str, list[dict[str, Any]]] = {}
        for some in in_slices(sorted(set(writer_ids))):
            rows = self.fetch(
                sa.select(c.writer_id, c.facts)
                .where(c.writer_id.in_(some), c.source == DEVICES)
                .order_by(c.writer_id, c.t_ns)
            )
            for row in rows:
                facts = unpack_stored(row.facts)
                gpus = facts.get("gpus")
                if isinstance(gpus, list) and all(isinstance(gpu, str) for gpu in gpus):
                    told = {"gpus": list(dict.fromkeys(gpus))[:MAX_DEVICES], "by": facts.get("by")}
                    found.setdefault(row.writer_id, []).append(told)
        return found


def sane_devices(gpus: Iterable[Mapping[str, Any]]) -> tuple[dict[str, Any], ...]:
    """Return the devices of an inventory that have a UUID, each once; numbers that are none are left out.

    Whoever reaches the streams may write one: none may keep the other nodes from being shown.
    """
    found: dict[str, dict[str, Any]] = {}
    for gpu in gpus:
        uuid = gpu.get("uuid")
        if not isinstance(uuid, str) or uuid in found:
            continue
        if len(found) == MAX_DEVICES:
            break
        found[uuid] = {name: value for name, value in gpu.items() if name not in _NUMBERS or _is_count(value)}
    return tuple(found.values())


def _is_count(value: object) -> bool:
    return type(value) is int and 0 <= value < 2**63


def watched_key(writer_id: str) -> str:
    """Return the canonical key that an agent has in its run if it sampled this writer."""
    return encode_path((f"w/{writer_id}/{WATCHED_KEY}",))
