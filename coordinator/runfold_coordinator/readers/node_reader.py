"""The nodes that agents work on: what they consist of, their newest sample, who runs there.

In: the store. Out: documents of the API, a dict each; and the devices of writers, for whoever shows writers.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from runfold.protocol.keypath import decode_path
from runfold.protocol.records import NodeRecord
from runfold_coordinator.aggregate.attempts import Placement
from runfold_coordinator.aggregate.column import numbers
from runfold_coordinator.aggregate.rows import merge_blocks
from runfold_coordinator.readers.system_names import PREFIX, Key, Naming, device_places
from runfold_coordinator.readers.system_places import name_of
from runfold_coordinator.readers.system_reader import LATEST_SAMPLES
from runfold_coordinator.store.model import WriterRow
from runfold_coordinator.store.store import Store

_NO_RECORD = NodeRecord()


class NodeReader:
    """Reads nodes. Thread-safe: it keeps nothing between calls."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def nodes(self, *, limit: int, host: str | None = None) -> list[dict[str, Any]]:
        """Return the nodes, last heard of first, one of each boot."""
        agents = self._store.newest_watchers(limit, host=host)
        records = self._store.inventories([agent.writer_pk for agent in agents])
        live = self._store.live_writers_at([agent.host for agent in agents if agent.host is not None])
        return [
            self._document(
                agent,
                records.get(agent.writer_pk, _NO_RECORD),
                [each for each in live if (each[0].host, each[0].boot_id) == (agent.host, agent.boot_id)],
            )
            for agent in agents
        ]

    def _document(
        self,
        agent: WriterRow,
        record: NodeRecord,
        live: Sequence[tuple[WriterRow, tuple[str, str, str]]],
    ) -> dict[str, Any]:
        metrics, sampled_ns = self._newest(agent, record)
        return {
            "host": agent.host,
            "boot_id": agent.boot_id,
            "agent": agent.writer_id,
            "started_at": agent.started_unix_ns / 1e9,
            "last_seen": agent.last_seen_unix_s,
            "sampled_at": None if sampled_ns is None else sampled_ns / 1e9,
            "gpus": [dict(gpu) for gpu in record.gpus],
            "facts": dict(record.facts),
            "metrics": metrics,
            "writers": [
                {
                    "entity": path[0],
                    "project": path[1],
                    "run_id": path[2],
                    "writer": writer.writer_id,
                    "label": name_of(writer),
                    "rank": writer.rank,
                    "pid": writer.pid,
                    "state": writer.state,
                }
                for writer, path in live
            ],
        }

    def _newest(self, agent: WriterRow, record: NodeRecord) -> tuple[dict[str, float], int | None]:
        """Return the newest value of each of the node's own metrics, and when the last sample was taken."""
        if agent.step_max is None:
            return {}, None
        blocks = self._store.read_blocks(
            agent.run_pk, agent.writer_pk, step_min=agent.step_max - LATEST_SAMPLES + 1
        )
        rows = merge_blocks(list(blocks), Placement(1))
        naming = Naming(writers={}, node="", places=device_places(record.gpus))
        values = {}
        for text, column in rows.columns.items():
            name = naming.name(Key.parse(decode_path(text)[0]))
            _, found = numbers(column)
            if name is not None and len(found):
                values[name.removeprefix(PREFIX)] = float(found[-1])
        return dict(sorted(values.items())), int(rows.t_ns[-1]) if len(rows.t_ns) else None


def devices_of_writers(store: Store, writers: Collection[WriterRow]) -> dict[str, list[dict[str, Any]]]:
    """Return by writer id the devices it uses, or may use while it uses none: {"index", "uuid", "name"}.

    A writer of which no agent said anything is left out.
    """
    told = store.devices([writer.writer_id for writer in writers])
    if not told:
        return {}
    agents = store.watchers_of([writer for writer in writers if writer.writer_id in told])
    known = {
        gpu.get("uuid"): gpu
        for record in store.inventories([agent.writer_pk for agent in agents]).values()
        for gpu in record.gpus
    }
    found = {}
    for writer_id, facts in told.items():
        uuids = facts[-1]["gpus"]
        shown = [known.get(uuid, {}) | {"uuid": uuid} for uuid in uuids]
        found[writer_id] = [{name: gpu.get(name) for name in ("index", "uuid", "name")} for gpu in shown]
    return found
