"""Keys of an agent's spool -> names of system metrics as a run's readers see them. Pure.

In: which writers, devices and nodes are the run's. Out: W&B's names ("system.gpu.0.temp"), with "/l:<label>"
where there are several. How keys are made: `runfold.node.sampling.assembly`.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

PREFIX = "system."
#: Kernel's counters since boot; a run sees what was added since its first sample.
_COUNTER = re.compile(r"network\.(sent|recv)|disk\..+\.(in|out)", re.DOTALL)
#: What W&B repeats as gpu.process.<i>.<name> for the devices that the run's own process uses.
PROCESS_NAMES = frozenset(
    {
        "gpu",
        "memory",
        "memoryAllocated",
        "memoryAllocatedBytes",
        "temp",
        "powerWatts",
        "powerPercent",
        "enforcedPowerLimitWatts",
    }
)


@dataclass(frozen=True, slots=True)
class Key:
    """A key of an agent's spool, taken apart. None: not of a writer, not of a device."""

    writer: str | None
    device: str | None
    name: str

    @classmethod
    def parse(cls, key: str) -> Key:
        """Return the parts of a key (as logged, not its canonical text)."""
        writer = device = None
        if key.startswith("w/") and key[34:35] == "/":
            writer, key = key[2:34], key[35:]
        if key.startswith("g/"):
            # The UUID of a MIG device of old drivers has slashes in it, names have none.
            device, _, key = key[2:].rpartition("/")
        return cls(writer, device, key)


def is_counter(name: str) -> bool:
    """Return True for a counter since boot of which a run sees the difference."""
    return _COUNTER.fullmatch(name) is not None


@dataclass(frozen=True, slots=True)
class Naming:
    """What a run calls the metrics of one node.

    Attributes:
        writers: Suffix by writer id: "" or "/l:<label>"; others are not the run's.
        node: Suffix of what is the node's own.
        places: By UUID, "0" or "0.mig.1".
        devices: UUIDs that the run's writers may use; None: all.
    """

    writers: Mapping[str, str]
    node: str
    places: Mapping[str, str]
    devices: Collection[str] | None = None

    def name(self, key: Key) -> str | None:
        """Return the name of a metric; None when it is no business of the run."""
        if key.writer is not None and key.writer not in self.writers:
            return None
        suffix = self.node if key.writer is None else self.writers[key.writer]
        if key.device is None:
            return f"{PREFIX}{key.name}{suffix}"
        if self.devices is not None and key.device not in self.devices:
            return None
        process = "" if key.writer is None else "process."
        return f"{PREFIX}gpu.{process}{self.place(key.device)}.{key.name}{suffix}"

    def process_name(self, key: Key) -> str | None:
        """Return W&B's second name of a device's metric, for rows in which the run uses the device."""
        if key.device is None or key.writer is not None or key.name not in PROCESS_NAMES:
            return None
        if self.name(key) is None:
            return None
        return f"{PREFIX}gpu.process.{self.place(key.device)}.{key.name}{self.node}"

    def place(self, device: str) -> str:
        """Return the number of a device; its UUID where no inventory has it."""
        return self.places.get(device, device)


def device_places(gpus: Iterable[Mapping[str, Any]]) -> dict[str, str]:
    """Return by UUID the number of each device of an inventory: "0", "0.mig.1"."""
    places: dict[str, str] = {}
    for gpu in gpus:
        uuid, index, mig = gpu.get("uuid"), gpu.get("index"), gpu.get("mig")
        if isinstance(uuid, str) and isinstance(index, int):
            places.setdefault(uuid, f"{index}.mig.{mig}" if isinstance(mig, int) else str(index))
    return places


def with_relatives(uuids: Iterable[str], gpus: Iterable[Mapping[str, Any]]) -> set[str]:
    """Return these devices, the GPUs that they are parts of, and the parts of those named whole."""
    named = set(uuids)
    found = set(named)
    for gpu in gpus:
        uuid, parent = gpu.get("uuid"), gpu.get("parent")
        if isinstance(uuid, str) and isinstance(parent, str):
            if uuid in named:
                found.add(parent)
            if parent in named:
                found.add(uuid)
    return found


def writer_suffixes(labels: Mapping[str, str | None]) -> dict[str, str]:
    """Return the suffix by writer: "" where all are one label (one process, perhaps started again)."""
    if len(set(labels.values())) <= 1:
        return dict.fromkeys(labels, "")
    return {writer: f"/l:{label or writer[:8]}" for writer, label in labels.items()}


def node_suffixes(names: Sequence[tuple[str, str]]) -> list[str]:
    """Return each node's suffix, from (label of its lowest-ranked writer, host): "" where there is one."""
    if len(names) <= 1:
        return [""] * len(names)
    labels = [label for label, _ in names]
    shown = [label if labels.count(label) == 1 else f"{label}@{host}" for label, host in names]
    return [f"/l:{label}" for label in shown]
