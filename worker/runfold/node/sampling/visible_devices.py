"""CUDA_VISIBLE_DEVICES -> the devices that a process may use. Pure.

In: the variable as the process has it, the node's devices. Out: UUIDs, in CUDA's order.

Rules of the CUDA driver: entries are numbers, UUIDs ("GPU-...", a prefix that only one device has will do)
or MIG devices ("MIG-<uuid>", before driver 470 "MIG-GPU-<uuid>/<gi>/<ci>"). The list ends at the first entry
that names no device: what follows is invisible. Numbers follow NVML's order (by PCI bus) here; CUDA's own
default, CUDA_DEVICE_ORDER=FASTEST_FIRST, differs from it where a node has GPUs of several kinds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

#: Entries that are looked at; a longer list is no list of devices.
MAX_ENTRIES = 1024


@dataclass(frozen=True, slots=True)
class Device:
    """A GPU, or a MIG device of one. `index`: NVML's, of the GPU."""

    index: int
    uuid: str
    name: str = ""
    memory_bytes: int | None = None
    #: UUID of the GPU that a MIG device is part of; None: a whole GPU.
    parent: str | None = None
    #: Number of a MIG device in its GPU.
    mig: int | None = None
    gpu_instance: int | None = None
    compute_instance: int | None = None
    pci_bus: str | None = None


def visible_uuids(said: str | None, devices: Sequence[Device]) -> list[str]:
    """Return the UUIDs of the devices that a process with CUDA_VISIBLE_DEVICES=`said` may use.

    A GPU stands for its MIG devices too. None (not set) is all GPUs; "" and "-1" are none.
    """
    whole = sorted((device for device in devices if device.parent is None), key=lambda device: device.index)
    if said is None:
        return [device.uuid for device in whole]
    found: list[str] = []
    for entry in said.split(",")[:MAX_ENTRIES]:
        uuid = _find(entry.strip(), whole, devices)
        if uuid is None:
            break
        if uuid not in found:
            found.append(uuid)
    return found


def _find(entry: str, whole: Sequence[Device], devices: Sequence[Device]) -> str | None:
    if entry.isascii() and entry.isdigit():
        return next((device.uuid for device in whole if device.index == int(entry)), None)
    if entry.startswith("MIG-GPU-"):
        return _find_old_mig(entry, devices)
    if len(entry) <= len("GPU-"):
        return None
    fitting = [device.uuid for device in devices if device.uuid.lower().startswith(entry.lower())]
    return fitting[0] if len(fitting) == 1 else None


def _find_old_mig(entry: str, devices: Sequence[Device]) -> str | None:
    parent, _, instances = entry.removeprefix("MIG-").partition("/")
    for device in devices:
        if device.parent == parent and instances == f"{device.gpu_instance}/{device.compute_instance}":
            return device.uuid
    return None
