"""The nodes of a run at this moment: the newest sample of each, whose devices are whose.

In: the processes of a run. Out: what their agents sampled last. A sample is read once; who watches whom is
asked again every few seconds.
"""

from __future__ import annotations

import functools
import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from runfold.protocol.keypath import decode_path
from runfold.protocol.records import NodeRecord
from runfold_coordinator.clock import Clock
from runfold_coordinator.readers.system_names import Key
from runfold_coordinator.store.model import WriterRow
from runfold_coordinator.store.store import Store

#: For so long it is taken that the same agents watch the same processes, seconds.
KNOWN_S = 5.0
#: Of so many of the newest samples the newest value counts: one that failed once is not missed.
SAMPLES = 3
#: Runs and samples kept.
MAX_RUNS = 512
MAX_SAMPLES = 4096
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
    until_s: float
    writers: frozenset[str]
    agents: tuple[str, ...]
    records: Mapping[int, NodeRecord]
    devices: Mapping[str, Sequence[str]]


class NodesNow:
    """Looks at nodes. Thread-safe."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._lock = threading.Lock()
        self._known: OrderedDict[int, _Known] = OrderedDict()
        #: By agent's writer_pk: the seq up to which it was read, and what was found.
        self._samples: OrderedDict[int, tuple[int, NodeNow]] = OrderedDict()

    def around(self, run_pk: int, writers: Sequence[WriterRow]) -> Surroundings:
        """Return the nodes on which these processes of a run are, by host name."""
        known = self._who_watches(run_pk, writers)
        if not known.agents:
            return Surroundings(devices=known.devices)
        newest: dict[tuple[str | None, str | None], WriterRow] = {}
        for agent in sorted(self._store.find_writers(known.agents), key=lambda a: a.last_record_unix_ns):
            newest[agent.host, agent.boot_id] = agent
        nodes = [
            self._sample(agent, known.records.get(agent.writer_pk, _NO_RECORD)) for agent in newest.values()
        ]
        return Surroundings(tuple(sorted(nodes, key=lambda node: node.host or "")), known.devices)

    def _who_watches(self, run_pk: int, writers: Sequence[WriterRow]) -> _Known:
        now_s, ids = self._clock.mono_s(), frozenset(writer.writer_id for writer in writers)
        with self._lock:
            known = self._known.get(run_pk)
        if known is not None and now_s < known.until_s and known.writers == ids:
            return known
        agents = self._store.watchers_of(writers)
        told = self._store.devices(ids)
        known = _Known(
            until_s=now_s + KNOWN_S,
            writers=ids,
            agents=tuple(agent.writer_id for agent in agents),
            records=self._store.inventories([agent.writer_pk for agent in agents]),
            devices={writer_id: facts[-1]["gpus"] for writer_id, facts in told.items()},
        )
        with self._lock:
            _keep(self._known, run_pk, known, MAX_RUNS)
        return known

    def _sample(self, agent: WriterRow, record: NodeRecord) -> NodeNow:
        with self._lock:
            kept = self._samples.get(agent.writer_pk)
        if kept is not None and kept[0] == agent.last_seq:
            return kept[1]
        values, t_ns = self._newest_values(agent)
        node = node_now(agent, record, values, t_ns)
        with self._lock:
            _keep(self._samples, agent.writer_pk, (agent.last_seq, node), MAX_SAMPLES)
        return node

    def _newest_values(self, agent: WriterRow) -> tuple[dict[str, float], int]:
        """Return the newest value of each key, and when the newest sample was taken (0: there is none)."""
        values: dict[str, float] = {}
        t_ns = 0
        if agent.step_max is None:
            return values, t_ns
        blocks = self._store.read_blocks(agent.run_pk, agent.writer_pk, step_min=agent.step_max - SAMPLES + 1)
        for block in blocks:
            t_ns = max(t_ns, int(block.t_ns[-1]))
            for text, columns in block.columns.items():
                values[text] = float(columns[-1].values[-1])
        return values, t_ns


_NO_RECORD = NodeRecord()
#: Names in a sample -> fields of GpuNow.
_GPU_FIELDS = {
    "gpu": "util_percent",
    "memoryAllocatedBytes": "memory_used_bytes",
    "temp": "temperature_celsius",
    "powerWatts": "power_watts",
}


def node_now(agent: WriterRow, record: NodeRecord, values: Mapping[str, float], t_ns: int) -> NodeNow:
    """Return a node from the values of its newest sample, by their keys in the agent's spool. Pure."""
    own: dict[str, float] = {}
    of_gpus: dict[str, dict[str, float]] = {}
    of_writers: dict[str, dict[str, float]] = {}
    for text, value in values.items():
        key = _parse(text)
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
    """Return the devices of the inventory in its order, then those that only a sample knows."""
    inventory = {gpu["uuid"]: gpu for gpu in record.gpus if isinstance(gpu.get("uuid"), str)}
    found = []
    for uuid in [*inventory, *(uuid for uuid in sorted(values) if uuid not in inventory)]:
        gpu = inventory.get(uuid, {})
        index, name, total = gpu.get("index"), gpu.get("name"), gpu.get("memory_bytes")
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


@functools.lru_cache(maxsize=65_536)
def _parse(text: str) -> Key:
    return Key.parse(decode_path(text)[0])


def _keep(kept: OrderedDict[int, _V], key: int, value: _V, most: int) -> None:
    kept[key] = value
    kept.move_to_end(key)
    while len(kept) > most:
        kept.popitem(last=False)
