"""Where a run's processes were, when, who watched them there, and what the run calls that. Out: `Watch`es."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from runfold_coordinator.aggregate.column import Bools, Ints
from runfold_coordinator.readers.system_names import (
    Naming,
    device_places,
    node_suffixes,
    with_relatives,
    writer_suffixes,
)
from runfold_coordinator.store.model import RunRow, WriterRow
from runfold_coordinator.store.store import Store

#: A sample that was begun while a process lived may be written a moment after its end, nanoseconds.
SLACK_NS = 1_000_000_000
_ENDLESS = (1 << 63) - 1


@dataclass(frozen=True, slots=True)
class Watch:
    """One node of a run: the agents' writers that sampled it, oldest first, and what is the run's of that.

    `times`: (start, end) of the run's processes on the node, unix ns by the node's clock, joined, ascending.
    """

    agents: tuple[WriterRow, ...]
    times: tuple[tuple[int, int], ...]
    naming: Naming

    def covers(self, t_ns: Ints) -> Bools:
        """Return which moments fall into the run's time on the node."""
        inside = np.zeros(len(t_ns), np.bool_)
        for low, high in self.times:
            inside |= (t_ns >= low) & (t_ns <= high)
        return inside


def find_watches(
    store: Store, run: RunRow, *, rank: int | None = None, label: str | None = None
) -> list[Watch]:
    """Return the nodes of a run, that of the lowest rank first; [] where nothing was sampled.

    Args:
        rank: Only writers of this rank, and their nodes; `label` likewise. Names stay as in the whole run.
    """
    everyone = store.writers(run.run_pk)
    suffixes = writer_suffixes({writer.writer_id: name_of(writer) for writer in everyone})
    chosen = [
        writer
        for writer in everyone
        if (rank is None or writer.rank == rank) and (label is None or writer.label == label)
    ]
    agents = store.watchers_of(everyone)
    if not chosen or not agents:
        return []
    devices = store.devices([writer.writer_id for writer in chosen])
    inventories = store.inventories([agent.writer_pk for agent in agents])
    nodes = _nodes(everyone, agents)
    shown = node_suffixes([(_label_of(writers), host) for host, writers, _ in nodes])
    watches = []
    for (_, writers, watchers), suffix in zip(nodes, shown, strict=True):
        mine = [writer for writer in writers if writer in chosen]
        if not mine:
            continue
        gpus = [gpu for agent in watchers if agent.writer_pk in inventories
                for gpu in inventories[agent.writer_pk].gpus]  # fmt: skip
        naming = Naming(
            writers={writer.writer_id: suffixes[writer.writer_id] for writer in mine},
            node=suffix,
            places=device_places(gpus),
            devices=_devices_of(mine, devices, gpus),
        )
        watches.append(Watch(tuple(watchers), _times(mine), naming))
    return watches


def name_of(writer: WriterRow) -> str | None:
    """Return the label of a writer, else its rank; None for a process that is the whole run."""
    return writer.label if writer.label or writer.rank is None else f"rank{writer.rank}"


def _nodes(
    writers: Sequence[WriterRow], agents: Sequence[WriterRow]
) -> list[tuple[str, list[WriterRow], list[WriterRow]]]:
    """Return (host, writers in rank order, agents) of each node that has agents, lowest rank first."""
    # The agent's host name is the node's; a process may have been told another one.
    hosts = {(agent.host, agent.boot_id) for agent in agents}
    boots = {agent.boot_id: (agent.host, agent.boot_id) for agent in agents}
    found: dict[tuple[str | None, str | None], list[WriterRow]] = {}
    for writer in sorted(writers, key=_rank_order):
        place = (writer.host, writer.boot_id)
        place = place if place in hosts else boots.get(writer.boot_id, place)
        found.setdefault(place, []).append(writer)
    return [
        (place[0] or "", members, [agent for agent in agents if (agent.host, agent.boot_id) == place])
        for place, members in found.items()
        if place in hosts
    ]


def _rank_order(writer: WriterRow) -> tuple[bool, int, int, str]:
    return writer.rank is None, writer.rank or 0, writer.started_unix_ns, writer.writer_id


def _label_of(writers: Sequence[WriterRow]) -> str:
    first = writers[0]
    return name_of(first) or first.host or first.writer_id[:8]


def _devices_of(
    writers: Iterable[WriterRow], devices: dict[str, list[dict[str, Any]]], gpus: Iterable[dict[str, Any]]
) -> set[str] | None:
    """Return the devices that some of these writers may use or used; None where one's are not known."""
    uuids: set[str] = set()
    for writer in writers:
        told = devices.get(writer.writer_id)
        if not told:
            return None
        uuids.update(gpu for facts in told for gpu in facts["gpus"])
    return with_relatives(uuids, list(gpus))


def _times(writers: Iterable[WriterRow]) -> tuple[tuple[int, int], ...]:
    spans = sorted(
        (
            writer.started_unix_ns,
            _ENDLESS if writer.ended_unix_ns is None else writer.ended_unix_ns + SLACK_NS,
        )
        for writer in writers
    )
    joined: list[tuple[int, int]] = []
    for low, high in spans:
        if joined and low <= joined[-1][1]:
            joined[-1] = (joined[-1][0], max(joined[-1][1], high))
        else:
            joined.append((low, high))
    return tuple(joined)
