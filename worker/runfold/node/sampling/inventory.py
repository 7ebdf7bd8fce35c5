"""What a node consists of, for people, and for readers that number devices. In: probes. Out: a record."""

from __future__ import annotations

import platform
import socket
from typing import Any

from runfold.node.processes import boot_id
from runfold.protocol.records import NodeRecord

from .cgroup import CgroupReading
from .host import Host
from .nvml import GpuSample
from .visible_devices import Device


def describe_node(host: Host, limits: CgroupReading, gpus: GpuSample | None) -> NodeRecord:
    """Return the node's record; `limits` are those of the processes that are watched."""
    facts: dict[str, Any] = {
        "cpu_count": host.cpu_count,
        "logical_cpu_count": host.logical_cpu_count,
        "memory_bytes": host.memory_bytes,
        "os": platform.platform(),
        "kernel": platform.release(),
        "machine": platform.machine(),
        "cpu_limit": limits.cpu_limit,
        "memory_limit_bytes": limits.memory_limit_bytes,
    }
    if gpus is not None:
        facts |= {"driver": gpus.driver, "cuda": gpus.cuda}
    return NodeRecord(
        host=socket.gethostname(),
        boot_id=boot_id(),
        gpus=() if gpus is None else tuple(device_facts(device) for device in gpus.devices),
        facts={name: value for name, value in facts.items() if value is not None},
    )


def device_facts(device: Device) -> dict[str, Any]:
    """Return a device as the record says it: index, uuid, name, memory_bytes, pci_bus; parent and mig of MIG
    devices.
    """
    found = {
        "index": device.index,
        "uuid": device.uuid,
        "name": device.name,
        "memory_bytes": device.memory_bytes,
        "pci_bus": device.pci_bus,
        "parent": device.parent,
        "mig": device.mig,
    }
    return {name: value for name, value in found.items() if value is not None}
