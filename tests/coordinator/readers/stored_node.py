"""What agents keep of their nodes, written straight into a store: samples, inventories, devices of writers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa

from coordinator.readers.stored_run import START_NS, Said, StoredRun
from runfold.protocol.evidence import DEVICES, Evidence
from runfold.protocol.identity import NODE_ENTITY
from runfold.protocol.records import NodeRecord, RecordKind
from runfold.protocol.values import pack_value
from runfold_coordinator.store import tables as t
from runfold_coordinator.store.store import Store

COST = "agent.sample_cpu_ms"


class StoredNode:
    """One agent's writer: `sample` adds a row, `deliver` stores what was added."""

    def __init__(
        self, store: Store, name: str, *, boot: str = "b1", host: str = "h", started_s: float = 0
    ) -> None:
        self.said = Said(None, mode="grouped", run_id=name, boot_id=boot, started_s=started_s, role="node")
        self.said.writer_id = f"{name.encode().hex():0>32}"
        self._run = StoredRun(store, name)
        self._store = store
        identity = pack_value({**self.said.identity.to_map(), "host": host})
        self._place = {"role": "node", "host": host, "boot_id": boot, "identity": identity}
        self._place |= {"last_seen_unix_s": 1000.0 + started_s}

    @property
    def run_pk(self) -> int:
        return self._run.run_pk

    def sample(self, *, at_s: float | None = None) -> _Row:
        return _Row(self, at_s)

    def describe(self, gpus: Sequence[dict[str, Any]], **facts: Any) -> None:
        record = NodeRecord(host="h", boot_id="b", gpus=tuple(gpus), facts=facts)
        self.said._add(RecordKind.NODE, record.pack())

    def deliver(self, *, per_chunk: int | None = None) -> None:
        self._run.deliver(self.said, per_chunk=per_chunk)
        with self._store.transaction() as tx:
            tx.connection.execute(
                sa.update(t.runs)
                .where(t.runs.c.run_pk == self.run_pk)
                .values(entity=NODE_ENTITY, project="agents")
            )
            tx.connection.execute(
                sa.update(t.writers).where(t.writers.c.writer_id == self.said.writer_id).values(**self._place)
            )


class _Row:
    """Adds its values when called with them."""

    def __init__(self, node: StoredNode, at_s: float | None) -> None:
        self._node = node
        self._at_s = at_s

    def __call__(self, values: dict[str, float]) -> None:
        said = self._node.said
        said.log({COST: 1.0, **values})
        if self._at_s is not None:
            last = said.records[-1]
            said.records[-1] = type(last)(
                last.seq, START_NS + round(self._at_s * 1e9), last.kind, last.flags, last.payload
            )


def own(said: Said, **values: float) -> dict[str, float]:
    """Return the values of a writer, as its agent keeps them."""
    found = {name.replace("__", "."): value for name, value in values.items()}
    return {f"w/{said.writer_id}/{name}": value for name, value in {"proc.cpu.threads": 2.0, **found}.items()}


def place_writer(
    store: Store, said: Said, *, boot: str = "b1", host: str = "h", ended_s: float | None = None
) -> None:
    """Say where a process ran, and when it ended."""
    ended_ns = None if ended_s is None else START_NS + round(ended_s * 1e9)
    with store.transaction() as tx:
        tx.connection.execute(
            sa.update(t.writers)
            .where(t.writers.c.writer_id == said.writer_id)
            .values(host=host, boot_id=boot, ended_unix_ns=ended_ns, identity=pack_value(
                {**said.identity.to_map(), "host": host, "boot_id": boot}
            ))
        )  # fmt: skip


def tell_devices(
    store: Store, said: Said, gpus: Sequence[str], *, at_s: float = 0.0, by: str = "environment"
) -> None:
    """Keep evidence of a writer's devices."""
    evidence = Evidence(
        bytes.fromhex(said.writer_id), DEVICES, START_NS + round(at_s * 1e9), {"gpus": list(gpus), "by": by}
    )
    writer, source, ident = evidence.key
    with store.transaction() as tx:
        tx.insert(
            t.evidence,
            [
                {
                    "writer_id": writer.hex(),
                    "source": source,
                    "ident": ident,
                    "t_ns": evidence.t_ns,
                    "received_unix_s": 0.0,
                    "facts": pack_value(dict(evidence.facts)),
                    "is_fresh": False,
                }
            ],
        )
