"""XID errors: what the NVIDIA driver writes into the kernel's log when something went wrong on a GPU.

In: NVML's event set, asked without waiting. Out: how many came for each device, and the last code.
"""

from __future__ import annotations

import ctypes
from collections.abc import Mapping
from typing import Any

#: Events that are taken at one look; a GPU in a storm of errors must not keep the sampler.
MAX_EVENTS = 256


class XidEvents:
    """Counts critical XIDs since it was made. Every method raises NVMLError but `counts`."""

    def __init__(self, nv: Any, handles: Mapping[str, Any], counts: dict[str, tuple[int, int]]) -> None:
        """Register for the devices, by UUID; those that refuse are left out.

        Args:
            counts: By UUID (number so far, last code), kept over sessions; changed here.
        """
        self._nv = nv
        self._set = nv.nvmlEventSetCreate()
        self.counts = counts
        #: A device that fell off the bus can't be asked for its UUID any more.
        self._uuids = {_address(handle): uuid for uuid, handle in handles.items()}
        for uuid, handle in handles.items():
            try:
                supported = nv.nvmlDeviceGetSupportedEventTypes(handle)
                if supported & nv.nvmlEventTypeXidCriticalError:
                    nv.nvmlDeviceRegisterEvents(handle, nv.nvmlEventTypeXidCriticalError, self._set)
                    counts.setdefault(uuid, (0, 0))
            except nv.NVMLError:
                continue

    def poll(self) -> None:
        """Take what came since the last look."""
        nv = self._nv
        for _ in range(MAX_EVENTS):
            try:
                event = nv.nvmlEventSetWait_v2(self._set, 0)
            except nv.NVMLError as error:
                if error.value == nv.NVML_ERROR_TIMEOUT:
                    return
                raise
            if event.eventType & nv.nvmlEventTypeXidCriticalError:
                uuid = self._uuids.get(_address(event.device))
                if uuid is not None:
                    count, _ = self.counts.get(uuid, (0, 0))
                    self.counts[uuid] = (count + 1, int(event.eventData))

    def close(self) -> None:
        """Free the set."""
        self._nv.nvmlEventSetFree(self._set)

    def values(self, uuid: str) -> dict[str, float]:
        """Return a device's metrics; {} where it can't be listened to."""
        if uuid not in self.counts:
            return {}
        count, last = self.counts[uuid]
        return {"xidErrors": float(count), **({"lastXid": float(last)} if count else {})}


def _address(handle: Any) -> int | None:
    """Return what tells a device's handle from another's."""
    return ctypes.cast(handle, ctypes.c_void_p).value
