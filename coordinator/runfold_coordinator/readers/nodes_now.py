"""The nodes of a run at this moment: the newest sample of each, whose devices are whose.

In: the processes of a run. Out: what their agents sampled last. A sample is read once; who watches whom is
asked again every few seconds.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import sqlalchemy as sa

from runfold.protocol.keypath import encode_path
from runfold.protocol.records import NodeRecord
from runfold_coordinator.clock import Clock
from runfold_coordinator.readers.system_names import Key
from runfold_coordinator.store import tables as t
from runfold_coordinator.store.chunks import Chunk
from runfold_coordinator.store.history_reads import part_fetcher
from runfold_coordinator.store.model import WriterRow
from runfold_coordinator.store.names import escape_key, key_digest
from runfold_coordinator.store.slices import in_slices
from runfold_coordinator.store.store import Store

#: For so long it is taken that the same agents watch the same processes, seconds.
KNOWN_S = 5.0
#: Runs, samples and keys kept.
MAX_RUNS = 512
MAX_SAMPLES = 4096
MAX_KEYS = 200_000
_MIB = 1024 * 1024
_V = TypeVar("_V")


@dataclass(frozen=True, slots=True)
class GpuNow:
    """A device; values that its driver did not say are None."""

    uuid: str
    index: int | None
    name: str | None
    util_percent: float | None = None
    memory_used_bytes: float | None = None
    memory_total_bytes: float | None = None
    temperature_celsius: float | None = None
    power_watts: float | None = None


@dataclass(frozen=True, slots=True)
class UseNow:
    """What a process and its children use. `cpu_percent`: of the processors that it may use."""

    cpu_percent: float | None = None
    rss_bytes: float | None = None


@dataclass(frozen=True, slots=True)
class NodeNow:
    """A node and its newest sample. `agent`: the writer that took it; `sampled_unix_s`: by its clock."""

    agent: str
    host: str | None
    boot_id: str | None
    sampled_unix_s: float | None
    cpu_percent: float | None
    memory_percent: float | None
    gpus: tuple[GpuNow, ...]
    uses: Mapping[str, UseNow] = field(repr=False)


@dataclass(frozen=True, slots=True)
class Surroundings:
    """The nodes of a run's processes, and by writer id the devices that it uses or may use (UUIDs)."""

    nodes: tuple[NodeNow, ...] = ()
    devices: Mapping[str, Sequence[str]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Known:
    """Who watches a run's processes, and what is asked of their samples: keys by key_pk."""

    until_s: float
    writers: frozenset[str]
    agents: tuple[str, ...]
    records: Mapping[int, NodeRecord]
    devices: Mapping[str, Sequence[str]]
    keys: Mapping[int, Key]


class NodesNow:
    """Looks at nodes. Thread-safe."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._lock = threading.Lock()
        self._known: OrderedDict[int, _Known] = OrderedDict()
        #: By agent's writer_pk: the seq up to which it was read, and what was found.
        self._samples: OrderedDict[int, tuple[int, NodeNow]] = OrderedDict()
        #: key_pk of keys that were looked for and found.
        self._key_pks: dict[str, int] = {}

    def around(self, run_pk: int, writers: Sequence[WriterRow]) -> Surroundings:
        """Return the nodes on which these processes of a run are, by host name."""
        known = self._who_watches(run_pk, writers)
        if not known.agents:
            return Surroundings(devices=known.devices)
        newest: dict[tuple[str | None, str | None], WriterRow] = {}
        for agent in sorted(self._store.find_writers(known.agents), key=lambda a: a.last_record_unix_ns):
            newest[agent.host, agent.boot_id] = agent
        nodes = self._sampled(list(newest.values()), known)
        return Surroundings(tuple(sorted(nodes, key=lambda node: node.host or "")), known.devices)

    def _who_watches(self, run_pk: int, writers: Sequence[WriterRow]) -> _Known:
        now_s, ids = self._clock.mono_s(), frozenset(writer.writer_id for writer in writers)
        with self._lock:
            known = self._known.get(run_pk)
        if known is not None and now_s < known.until_s and known.writers == ids:
            return known
        agents = self._store.watchers_of(writers)
        told = self._store.devices(ids)
        records = self._store.inventories([agent.writer_pk for agent in agents])
        uuids = {str(gpu.get("uuid")) for record in records.values() for gpu in record.gpus}
        known = _Known(
            until_s=now_s + KNOWN_S,
            writers=ids,
            agents=tuple(agent.writer_id for agent in agents),
            records=records,
            devices={writer_id: facts[-1]["gpus"] for writer_id, facts in told.items()},
            keys=self._find_keys(wanted_keys(ids, uuids)) if agents else {},
        )
        with self._lock:
            _keep(self._known, run_pk, known, MAX_RUNS)
        return known

    def _find_keys(self, wanted: Sequence[str]) -> dict[int, Key]:
        """Return by key_pk those of these keys that anybody has logged yet."""
        texts = {encode_path((key,)): key for key in wanted}
        missing = {key_digest(escape_key(text)): text for text in texts if text not in self._key_pks}
        digests = list(missing)
        found: dict[str, int] = {}
        for some in in_slices(digests):
            c = t.keys.c
            rows = self._store.fetch(sa.select(c.digest, c.key_pk).where(c.digest.in_(some)))
            found |= {missing[bytes(row.digest)]: row.key_pk for row in rows}
        with self._lock:
            if len(self._key_pks) + len(found) > MAX_KEYS:
                self._key_pks = {}
            self._key_pks |= found
            pks = self._key_pks
        return {pk: Key.parse(texts[text]) for text in texts if (pk := pks.get(text)) is not None}

    def _sampled(self, agents: Sequence[WriterRow], known: _Known) -> list[NodeNow]:
        with self._lock:
            kept = {agent.writer_pk: self._samples.get(agent.writer_pk) for agent in agents}
        stale = [
            agent for agent in agents if (have := kept[agent.writer_pk]) is None or have[0] != agent.last_seq
        ]
        values = self._newest_values([agent.writer_pk for agent in stale], known.keys)
        nodes = {pk: have[1] for pk, have in kept.items() if have is not None}
        for agent in stale:
            record = known.records.get(agent.writer_pk, _NO_RECORD)
            node = node_now(agent, record, *values.get(agent.writer_pk, ({}, 0)))
            nodes[agent.writer_pk] = node
            with self._lock:
                _keep(self._samples, agent.writer_pk, (agent.last_seq, node), MAX_SAMPLES)
        return [nodes[agent.writer_pk] for agent in agents]

    def _newest_values(
        self, agent_pks: Sequence[int], keys: Mapping[int, Key]
    ) -> dict[int, tuple[dict[Key, float], int]]:
        """Return by agent the values in its newest chunk, and the time of its newest sample, unix ns."""
        found: dict[int, tuple[dict[Key, float], int]] = {}
        c, inner = t.chunks.c, t.chunks.alias().c
        newest = (
            sa.select(sa.func.max(inner.seq_lo))
            .where(inner.writer_pk == t.writers.c.writer_pk)
            .correlate(t.writers)
            .scalar_subquery()
        )
        for some in in_slices(agent_pks):
            with self._store.snapshot() as connection:
                rows = connection.execute(
                    sa.select(c.chunk_pk, c.writer_pk, c.directory, c.data)
                    .select_from(t.writers.join(t.chunks, c.writer_pk == t.writers.c.writer_pk))
                    .where(t.writers.c.writer_pk.in_(some), c.seq_lo == newest)
                    # What is in cold files is no news.
                    .where(c.cold_file_pk.is_(None))
                )
                for row in rows.all():
                    chunk = Chunk(row.directory, part_fetcher(connection, row))
                    values = {
                        keys[pk]: float(columns[-1].values[-1])
                        for pk in chunk.key_pks.keys() & keys.keys()
                        if (columns := chunk.columns(pk)) and columns[-1].kind != "o"
                    }
                    found[row.writer_pk] = values, int(chunk.t_ns[-1])
        return found


_NO_RECORD = NodeRecord()
#: Names of the node's own metrics and of a process's, as agents log them.
_NODE_NAMES = ("host.cpu_percent", "memory_percent")
_USE_NAMES = ("cpu", "proc.memory.rssMB")
#: Names in a sample -> fields of GpuNow.
_GPU_FIELDS = {
    "gpu": "util_percent",
    "memoryAllocatedBytes": "memory_used_bytes",
    "temp": "temperature_celsius",
    "powerWatts": "power_watts",
}


def wanted_keys(writer_ids: Collection[str], uuids: Collection[str]) -> list[str]:
    """Return the keys of an agent's spool that tell of these processes and devices."""
    return [
        *_NODE_NAMES,
        *(f"g/{uuid}/{name}" for uuid in uuids for name in _GPU_FIELDS),
        *(f"w/{writer_id}/{name}" for writer_id in writer_ids for name in _USE_NAMES),
    ]


def node_now(agent: WriterRow, record: NodeRecord, values: Mapping[Key, float], t_ns: int) -> NodeNow:
    """Return a node from the values of its newest sample. Pure."""
    own: dict[str, float] = {}
    of_gpus: dict[str, dict[str, float]] = {}
    of_writers: dict[str, dict[str, float]] = {}
    for key, value in values.items():
        if key.writer is not None:
            if key.device is None:
                of_writers.setdefault(key.writer, {})[key.name] = value
        elif key.device is None:
            own[key.name] = value
        elif key.name in _GPU_FIELDS:
            of_gpus.setdefault(key.device, {})[_GPU_FIELDS[key.name]] = value
    return NodeNow(
        agent=agent.writer_id,
        host=agent.host,
        boot_id=agent.boot_id,
        sampled_unix_s=t_ns / 1e9 if t_ns else None,
        cpu_percent=own.get("host.cpu_percent"),
        memory_percent=own.get("memory_percent"),
        gpus=tuple(_gpus(record, of_gpus)),
        uses={writer: _use(found) for writer, found in of_writers.items()},
    )


def _gpus(record: NodeRecord, values: Mapping[str, Mapping[str, float]]) -> list[GpuNow]:
    """Return the devices of the inventory, in its order."""
    found = []
    for gpu in record.gpus:
        uuid, index, name, total = (gpu.get(field) for field in ("uuid", "index", "name", "memory_bytes"))
        if not isinstance(uuid, str):
            continue
        found.append(
            GpuNow(
                uuid=uuid,
                index=index if isinstance(index, int) else None,
                name=name if isinstance(name, str) else None,
                memory_total_bytes=float(total) if isinstance(total, int | float) else None,
                **values.get(uuid, {}),
            )
        )
    return found


def _use(values: Mapping[str, float]) -> UseNow:
    rss_mb = values.get("proc.memory.rssMB")
    return UseNow(values.get("cpu"), None if rss_mb is None else rss_mb * _MIB)


def _keep(kept: OrderedDict[int, _V], key: int, value: _V, most: int) -> None:
    kept[key] = value
    kept.move_to_end(key)
    while len(kept) > most:
        kept.popitem(last=False)
