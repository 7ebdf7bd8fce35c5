"""What agents keep of their nodes is read alike from every database."""

from __future__ import annotations

from coordinator.readers.stored_node import StoredNode, own, place_writer, tell_devices
from coordinator.readers.stored_run import Said, StoredRun
from runfold.protocol.keypath import encode_path
from runfold_coordinator.readers.node_reader import NodeReader, devices_of_writers
from runfold_coordinator.readers.system_reader import SystemReader
from runfold_coordinator.store.store import Store


def test_watchers_inventories_devices_and_nodes(store: Store):
    run = StoredRun(store)
    ranks = [Said(rank, label=f"rank{rank}") for rank in range(2)]
    for rank, said in enumerate(ranks):
        run.deliver(said)
        place_writer(store, said, boot=f"b{rank}", host=f"h{rank}")
        tell_devices(store, said, ["A"])
        node = StoredNode(store, f"n{rank}", boot=f"b{rank}", host=f"h{rank}", started_s=rank)
        node.describe([{"uuid": "A", "index": 0, "name": "Stub"}])
        node.sample(at_s=1 + rank)({"g/A/temp": 40.0 + rank, "g/B/temp": 1.0, **own(said)})
        node.deliver()
    stranger = StoredNode(store, "n9", boot="b0", host="h0")
    stranger.deliver()

    writers = store.writers(run.run_pk)
    assert [agent.host for agent in store.watchers_of(writers)] == ["h0", "h1"]
    assert store.watchers_of([]) == []
    assert {found["uuid"] for [found] in devices_of_writers(store, writers).values()} == {"A"}
    latest = SystemReader(store).latest(run.row)
    assert (latest["system.gpu.0.temp/l:rank0"], latest["system.gpu.0.temp/l:rank1"]) == (40.0, 41.0)
    assert not [name for name in latest if "gpu.B" in name]
    assert SystemReader(store).read(run.row).length == 2
    nodes = NodeReader(store).nodes(limit=10)
    assert sorted({node["host"] for node in nodes}) == ["h0", "h1"]
    assert [each["label"] for node in nodes if node["host"] == "h1" for each in node["writers"]] == ["rank1"]
    assert encode_path(("g/A/temp",)) in {row.key for row in store.keys(node.run_pk)}
