"""The newest sample of a run's nodes, and whose devices are whose."""

from __future__ import annotations

from typing import Any

import pytest

from coordinator.readers.stored_run import SECOND_NS, START_NS, Said, StoredRun
from coordinator.readers.test_live_reader import HandClock
from runfold.protocol.evidence import DEVICES
from runfold.protocol.records import NodeRecord, RecordKind
from runfold.protocol.values import pack_value
from runfold_coordinator.readers.live_reader import STALE_S, LiveReader, NothingHeard
from runfold_coordinator.readers.nodes_now import KNOWN_S, NodesNow, UseNow
from runfold_coordinator.store import tables as t

GPUS = ("GPU-a", "GPU-b")


class Agent:
    """An agent of host h: its spool as a stored run."""

    def __init__(self, store, *writer_ids: str, boot_id: str = "boot") -> None:
        self.store = store
        self.run = StoredRun(store, "agent")
        self.said = Said(run_id="agent", label="h", started_s=0.5, boot_id=boot_id, role="node")
        self.writer_ids = writer_ids
        record = NodeRecord(
            host="h",
            boot_id=boot_id,
            gpus=tuple(
                {"index": i, "uuid": uuid, "name": "H100", "memory_bytes": 80} for i, uuid in enumerate(GPUS)
            ),
        )
        self.said._add(RecordKind.NODE, record.pack())

    def sample(self, at_s: float, **changes: float) -> None:
        row: dict[str, Any] = {"host.cpu_percent": 50.0, "memory_percent": 20.0, "agent.sample_cpu_ms": 1.0}
        for uuid in GPUS:
            row |= {f"g/{uuid}/gpu": 90.0, f"g/{uuid}/temp": 60.0, f"g/{uuid}/powerWatts": 300.0}
            row |= {f"g/{uuid}/memoryAllocatedBytes": 40.0}
        for writer_id in self.writer_ids:
            row |= {f"w/{writer_id}/proc.cpu.threads": 9.0, f"w/{writer_id}/cpu": 77.0}
            row |= {f"w/{writer_id}/proc.memory.rssMB": 2.0, f"w/{writer_id}/g/GPU-a/usedMemoryBytes": 7.0}
        self.said.log({name: changes.get(name, value) for name, value in row.items()})
        object.__setattr__(self.said.records[-1], "t_ns", START_NS + int(at_s * SECOND_NS))
        self.run.deliver(self.said)
        with self.store.transaction() as tx:
            tx.connection.execute(
                t.writers.update()
                .where(t.writers.c.run_pk == self.run.run_pk)
                .values(role="node", host="h", boot_id=self.said.identity.boot_id)
            )


@pytest.fixture
def ranks(store) -> tuple[StoredRun, list[Said]]:
    run, ranks = StoredRun(store), [Said(rank, boot_id="boot") for rank in range(2)]
    for said in ranks:
        said.log({"loss": 1.0}, step=0, commit=True)
        run.deliver(said)
    return run, ranks


def devices(store, said: Said, *uuids: str) -> None:
    with store.transaction() as tx:
        tx.insert(t.evidence, [{
            "writer_id": said.writer_id, "source": DEVICES, "ident": "", "t_ns": 1, "received_unix_s": 0.0,
            "facts": pack_value({"gpus": list(uuids), "by": "environment"}), "is_fresh": False,
        }])  # fmt: skip


def test_a_rank_has_its_devices_and_its_use(store, ranks):
    run, said = ranks
    agent = Agent(store, *(each.writer_id for each in said))
    agent.sample(1.0)
    devices(store, said[0], "GPU-b")
    view = LiveReader(store, HandClock(), NothingHeard()).look(run.row)
    zero, one = view.writers
    assert [
        (g.uuid, g.index, g.util_percent, g.temperature_celsius, g.memory_total_bytes) for g in zero.gpus
    ] == [("GPU-b", 1, 90.0, 60.0, 80.0)]
    assert (zero.use, one.use, one.gpus) == (UseNow(77.0, 2 * 1024 * 1024), UseNow(77.0, 2 * 1024 * 1024), ())
    (node,) = view.nodes
    assert (node.host, node.cpu_percent, node.sampled_unix_s, len(node.gpus)) == (
        "h",
        50.0,
        START_NS / 1e9 + 1,
        2,
    )


def test_the_newest_sample_counts_and_is_read_once(store, ranks):
    run, said = ranks
    agent, clock = Agent(store, said[0].writer_id), HandClock()
    nodes = NodesNow(store, clock)
    writers = store.writers(run.run_pk)
    for second in range(5):
        agent.sample(second, **{"host.cpu_percent": float(second)})
        (node,) = nodes.around(run.run_pk, writers).nodes
        assert node.cpu_percent == float(second)
    assert nodes.around(run.run_pk, writers).nodes[0] is node


def test_an_agent_that_comes_later_is_found(store, ranks):
    run, said = ranks
    clock = HandClock()
    nodes = NodesNow(store, clock)
    writers = store.writers(run.run_pk)
    assert nodes.around(run.run_pk, writers).nodes == ()
    Agent(store, said[0].writer_id).sample(1.0)
    clock.now_s += KNOWN_S
    assert len(nodes.around(run.run_pk, writers).nodes) == 1


def test_an_old_sample_tells_nothing_of_now(store, ranks):
    run, said = ranks
    Agent(store, said[0].writer_id).sample(1.0)
    devices(store, said[0], "GPU-b", "GPU-unheard-of")
    clock = HandClock()
    clock.now_s += STALE_S + 10
    view = LiveReader(store, clock, NothingHeard()).look(run.row)
    zero = view.writers[0]
    assert zero.use == UseNow()
    assert [(g.uuid, g.index, g.util_percent) for g in zero.gpus] == [
        ("GPU-b", 1, None),
        ("GPU-unheard-of", None, None),
    ]


def test_a_process_that_ended_uses_nothing(store, ranks):
    run, said = ranks
    Agent(store, *(each.writer_id for each in said)).sample(1.0)
    said[0].exit()
    run.deliver(said[0])
    zero, one = LiveReader(store, HandClock(), NothingHeard()).look(run.row).writers
    assert (zero.use, one.use.cpu_percent) == (UseNow(), 77.0)


def test_a_node_of_another_run_is_none_of_ours(store, ranks):
    run, _ = ranks
    Agent(store, "f" * 32).sample(1.0)
    assert LiveReader(store, HandClock(), NothingHeard()).look(run.row).nodes == ()
