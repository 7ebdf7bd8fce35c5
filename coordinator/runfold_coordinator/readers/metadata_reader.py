"""What a run was started from and what it ran on, in the words of W&B's wandb-metadata.json.

In: the identity of the run's primary process, and what the agent of its node said of the node. Out: a dict.
"""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from typing import Any

from runfold.protocol.records import NodeRecord
from runfold_coordinator.store.model import RunRow, WriterRow
from runfold_coordinator.store.store import Store

#: The end of the calendar.
MAX_UNIX_S = 253402300799.0


def run_metadata(store: Store, run: RunRow) -> dict[str, Any]:
    """Return the metadata of a run; what is not known is left out, {} for a run without processes."""
    writers = store.writers(run.run_pk)
    primary = next((w for w in writers if w.writer_pk == run.primary_writer_pk), None)
    if primary is None:
        return {}
    found = _of_process(primary) | _of_node(_node_of(store, primary))
    return {name: value for name, value in found.items() if value not in (None, {}, [])}


def _of_process(writer: WriterRow) -> dict[str, Any]:
    origin = writer.identity.get("origin")
    said: Mapping[str, Any] = origin if isinstance(origin, Mapping) else {}
    git = said.get("git")
    started = datetime.datetime.fromtimestamp(min(writer.started_unix_ns / 1e9, MAX_UNIX_S), tz=datetime.UTC)
    return {
        "startedAt": started.isoformat().replace("+00:00", "Z"),
        "host": writer.host,
        "program": writer.identity.get("program"),
        "args": said.get("args"),
        "executable": said.get("executable"),
        "python": writer.identity.get("python"),
        "os": said.get("os"),
        "root": said.get("root"),
        "username": said.get("username"),
        "git": {name: git.get(name) for name in ("commit", "branch", "remote", "root") if git.get(name)}
        if isinstance(git, Mapping)
        else None,
        "sdk": writer.identity.get("sdk_version"),
        "launcher": writer.launcher.get("source"),
        "worldSize": writer.world_size,
        "writerId": writer.writer_id,
    }


def _of_node(node: NodeRecord | None) -> dict[str, Any]:
    if node is None:
        return {}
    memory = node.facts.get("memory_bytes")
    names = [gpu.get("name") for gpu in node.gpus]
    return {
        "cpu_count": node.facts.get("cpu_count"),
        "cpu_count_logical": node.facts.get("logical_cpu_count"),
        "memory": None if memory is None else {"total": str(memory)},
        "gpu": next((name for name in names if name), None),
        "gpu_count": len(node.gpus) or None,
        "gpu_nvidia": [
            {
                name: value
                for name, value in (
                    ("name", gpu.get("name")),
                    ("memoryTotal", None if gpu.get("memory_bytes") is None else str(gpu["memory_bytes"])),
                    ("uuid", gpu.get("uuid")),
                )
                if value is not None
            }
            for gpu in node.gpus
        ],
        "cudaVersion": node.facts.get("cuda"),
        "driver": node.facts.get("driver"),
        "kernel": node.facts.get("kernel"),
    }


def _node_of(store: Store, writer: WriterRow) -> NodeRecord | None:
    """Return what the newest agent of the writer's node said of it; None where none did."""
    if writer.host is None:
        return None
    agents = store.newest_watchers(10, host=writer.host)
    same_boot = [agent for agent in agents if agent.boot_id == writer.boot_id]
    records = store.inventories([agent.writer_pk for agent in same_boot])
    return next((records[agent.writer_pk] for agent in same_boot if agent.writer_pk in records), None)
