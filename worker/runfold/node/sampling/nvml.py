"""All NVIDIA devices of a node, through NVML. In: nothing but the driver. Out: `GpuSample`.

No driver, no device, a broken library: no sample, no error. A lost device or session is begun anew with
growing pauses.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from .nvml_device import DeviceLostError, NvmlDevice, SessionLostError
from .nvml_xids import XidEvents
from .visible_devices import Device

logger = logging.getLogger(__name__)

#: Pauses between attempts to begin NVML again, seconds: the first, and the longest.
RETRY_S, LONGEST_RETRY_S = 30.0, 600.0
MAX_DEVICES = 64
MAX_MIG_DEVICES = 16


@dataclass(frozen=True, slots=True)
class GpuSample:
    """What the devices said.

    Attributes:
        values: "g/<uuid>/<name>" -> number.
        processes: By UUID, pid -> bytes of its memory that the process holds (None: can't be told).
        devices: All that were ever seen, MIG devices after their GPU.
    """

    values: dict[str, float] = field(default_factory=dict)
    processes: dict[str, dict[int, int | None]] = field(default_factory=dict)
    devices: tuple[Device, ...] = ()
    driver: str | None = None
    cuda: str | None = None


class Nvml:
    """One session with NVML after the other. Not thread-safe: all calls come from one thread."""

    def __init__(self) -> None:
        self._nv: Any = None
        self._devices: dict[str, NvmlDevice] = {}
        self._migs: dict[str, list[NvmlDevice]] = {}
        #: every device that was seen, by UUID; an index stays what it was first.
        self._known: dict[str, Device] = {}
        self._lost: set[str] = set()
        #: of which the loss was logged.
        self._said_lost: set[str] = set()
        self._xids: XidEvents | None = None
        self._xid_counts: dict[str, tuple[int, int]] = {}
        self._retry_at_s = -1e9
        self._pause_s = RETRY_S
        self._driver: str | None = None
        self._cuda: str | None = None
        self._is_missing = False

    def sample(self, now_s: float) -> GpuSample | None:
        """Return what all devices say; None where there is no NVIDIA driver."""
        if self._is_missing or not self._be_open(now_s):
            return self._answer({}, {}, self._known_gpus()) if self._known else None
        values: dict[str, float] = {}
        processes: dict[str, dict[int, int | None]] = {}
        for uuid, device in list(self._devices.items()):
            if uuid in self._lost:
                continue
            try:
                self._poll_xids()
                self._sample_device(device, now_s, values, processes)
            except DeviceLostError:
                self._lose(uuid, now_s)
            except SessionLostError:
                self._end()
                self._retry_at_s = now_s
                break
        if self._devices and not self._lost:
            self._pause_s = RETRY_S
        self._said_lost &= self._lost
        return self._answer(values, processes, self._lost)

    def close(self) -> None:
        """End the session."""
        self._end()

    def _sample_device(
        self,
        device: NvmlDevice,
        now_s: float,
        values: dict[str, float],
        processes: dict[str, dict[int, int | None]],
    ) -> None:
        uuid = device.what.uuid
        migs = self._migs.get(uuid, [])
        found = device.sample(now_s, has_mig=bool(migs))
        if self._xids is not None:
            found |= self._xids.values(uuid)
        found["lost"] = 0.0
        values.update({f"g/{uuid}/{name}": value for name, value in found.items()})
        processes[uuid] = device.processes()
        for mig in migs:
            for name, value in mig.sample_mig().items():
                values[f"g/{mig.what.uuid}/{name}"] = value
            processes[mig.what.uuid] = mig.processes()

    def _poll_xids(self) -> None:
        if self._xids is None:
            return
        try:
            self._xids.poll()
        except self._nv.NVMLError as error:
            logger.info("XID errors can't be listened to", extra={"event": "xid_events", "why": str(error)})
            self._xids = None

    def _answer(
        self,
        values: dict[str, float],
        processes: dict[str, dict[int, int | None]],
        lost: Iterable[str],
    ) -> GpuSample:
        values |= {f"g/{uuid}/lost": 1.0 for uuid in lost}
        devices = sorted(
            self._known.values(), key=lambda one: (one.index, -1 if one.mig is None else one.mig)
        )
        return GpuSample(values, processes, tuple(devices), self._driver, self._cuda)

    def _lose(self, uuid: str, now_s: float) -> None:
        if not self._lost:
            self._wait_longer(now_s)  # with every device that is lost again
        self._lost.add(uuid)
        if uuid not in self._said_lost:
            self._said_lost.add(uuid)
            logger.warning("a GPU is lost", extra={"event": "gpu_lost", "uuid": uuid})

    # --- sessions ---------------------------------------------------------------------------------------

    def _be_open(self, now_s: float) -> bool:
        if self._nv is not None and self._devices and not (self._lost and now_s >= self._retry_at_s):
            return True
        if now_s < self._retry_at_s:
            return False
        self._end()
        return self._begin(now_s)

    def _begin(self, now_s: float) -> bool:
        try:
            import pynvml as nv

            nv.nvmlInit()
        except Exception as error:  # noqa: BLE001 - no driver, no library, a library of another kind
            # Without a driver there never was a device: nothing to come back.
            self._is_missing = not self._known
            self._wait_longer(now_s)
            logger.debug("no NVML", extra={"event": "nvml_missing", "why": str(error)})
            return False
        self._nv = nv
        self._lost = set()
        self._find_devices()
        if not self._devices:
            self._is_missing = not self._known
            self._end()
            self._wait_longer(now_s)
            return False
        for uuid in set(self._known_gpus()) - set(self._devices):
            self._lose(uuid, now_s)
        self._listen()
        return True

    def _wait_longer(self, now_s: float) -> None:
        self._retry_at_s = now_s + self._pause_s
        self._pause_s = min(LONGEST_RETRY_S, 2 * self._pause_s)

    def _known_gpus(self) -> list[str]:
        return [uuid for uuid, device in self._known.items() if device.parent is None]

    def _find_devices(self) -> None:
        nv = self._nv
        self._driver = self._try(nv.nvmlSystemGetDriverVersion)
        version = self._try(nv.nvmlSystemGetCudaDriverVersion)
        self._cuda = None if version is None else f"{version // 1000}.{version % 1000 // 10}"
        count = self._try(nv.nvmlDeviceGetCount) or 0
        for index in range(min(count, MAX_DEVICES)):
            handle = self._try(nv.nvmlDeviceGetHandleByIndex, index)
            uuid = None if handle is None else self._try(nv.nvmlDeviceGetUUID, handle)
            if handle is None or uuid is None:
                continue
            what = self._known.get(uuid) or self._describe(handle, index, uuid)
            self._known[uuid] = what
            self._devices[uuid] = NvmlDevice(nv, handle, what)
            self._migs[uuid] = list(self._find_migs(handle, what))

    def _describe(self, handle: Any, index: int, uuid: str) -> Device:
        nv = self._nv
        memory = self._try(_total, nv, handle)
        bus = self._try(lambda: nv.nvmlDeviceGetPciInfo(handle).busId)
        bus = bus.decode(errors="replace") if isinstance(bus, bytes) else bus
        name = self._try(nv.nvmlDeviceGetName, handle) or ""
        return Device(index, uuid, name, memory, pci_bus=bus)

    def _find_migs(self, handle: Any, parent: Device) -> Iterable[NvmlDevice]:
        nv = self._nv
        mode = self._try(nv.nvmlDeviceGetMigMode, handle)
        if not mode or not mode[0]:
            return
        count = self._try(nv.nvmlDeviceGetMaxMigDeviceCount, handle) or 0
        for number in range(min(count, MAX_MIG_DEVICES)):
            mig = self._try(nv.nvmlDeviceGetMigDeviceHandleByIndex, handle, number)
            uuid = None if mig is None else self._try(nv.nvmlDeviceGetUUID, mig)
            if mig is None or uuid is None:
                continue
            what = Device(
                parent.index,
                uuid,
                self._try(nv.nvmlDeviceGetName, mig) or parent.name,
                self._try(_total, nv, mig),
                parent=parent.uuid,
                mig=number,
                gpu_instance=self._try(nv.nvmlDeviceGetGpuInstanceId, mig),
                compute_instance=self._try(nv.nvmlDeviceGetComputeInstanceId, mig),
            )
            self._known[uuid] = what
            yield NvmlDevice(nv, mig, what)

    def _listen(self) -> None:
        handles = {uuid: device.handle for uuid, device in self._devices.items()}
        self._xids = self._try(XidEvents, self._nv, handles, self._xid_counts)

    def _end(self) -> None:
        if self._nv is None:
            return
        for device in [*self._devices.values(), *(mig for migs in self._migs.values() for mig in migs)]:
            with contextlib.suppress(DeviceLostError, SessionLostError):
                device.close()
        if self._xids is not None:
            self._try(self._xids.close)
        self._try(self._nv.nvmlShutdown)
        self._nv, self._xids = None, None
        self._devices, self._migs = {}, {}

    def _try(self, call: Callable[..., Any], *arguments: Any) -> Any:
        try:
            return call(*arguments)
        except self._nv.NVMLError:
            return None


def _total(nv: Any, handle: Any) -> int:
    return int(nv.nvmlDeviceGetMemoryInfo(handle).total)
