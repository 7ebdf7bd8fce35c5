"""One NVIDIA device: asks its questions, each guarded by itself, and remembers what it will never answer.

A call that fails leaves its metric out of this sample. NOT_SUPPORTED and the like are remembered and not
asked again; a device that is lost says so once and is left alone until NVML was begun anew.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

from .nvml_gpm import GpmMeter, supports_gpm
from .nvml_questions import FIELDS, QUESTIONS, Question, memory, pcie_throughput, read_fields
from .plausible import plausible
from .visible_devices import Device

T = TypeVar("T")

#: NVML's codes: invalid argument, not supported, no permission, function not found, VGPU ECC, version
#: mismatch, deprecated: whoever answers so goes on answering so.
NEVER = frozenset({2, 3, 4, 13, 22, 25, 26})
UNINITIALIZED, LOST, RESET_REQUIRED, UNKNOWN = 1, 15, 16, 999


class DeviceLostError(Exception):
    """The driver does not reach the device any more."""


class SessionLostError(Exception):
    """NVML has to be begun anew."""


@dataclass(slots=True)
class Rate:
    """A counter as it was read last."""

    value: float
    at_s: float


@dataclass(slots=True)
class NvmlDevice:
    """A GPU or a MIG device. Not thread-safe."""

    nv: Any
    handle: Any
    what: Device
    _never: set[str] = field(default_factory=set)
    _counters: dict[str, Rate] = field(default_factory=dict)
    _gpm: GpmMeter | None = None
    _answered: bool = False
    _unknown_count: int = 0

    def sample(self, now_s: float, *, has_mig: bool) -> dict[str, float]:
        """Return what the device says, by W&B's names.

        Raises:
            DeviceLostError, SessionLostError: Nothing more can be had of it.
        """
        self._answered, self._unknown_count = False, 0
        values: dict[str, float] = {}
        for question in QUESTIONS:
            values.update(self._ask(question) or {})
        values.update(self._fields(now_s))
        if not has_mig:  # its instances have samples of their own
            values.update(self.guarded("gpm", self._read_gpm, now_s) or {})
        if "pcieTxBytes" not in values and "#pcieTxBytes" not in self._counters:
            values.update(self.guarded("pcie", pcie_throughput, self.nv, self.handle) or {})
        if not self._answered and self._unknown_count:
            raise DeviceLostError
        values = plausible(values)
        if values.get("enforcedPowerLimitWatts") and "powerWatts" in values:
            values["powerPercent"] = 100 * values["powerWatts"] / values["enforcedPowerLimitWatts"]
        return values

    def sample_mig(self) -> dict[str, float]:
        """Return what a MIG device can say of itself; raises like `sample`."""
        return plausible(self.guarded("memory", memory, self.nv, self.handle) or {})

    def processes(self) -> dict[int, int | None]:
        """Return the processes that hold memory of the device: pid -> bytes, None where it can't be told."""
        found: dict[int, int | None] = {}
        for name in (
            "nvmlDeviceGetComputeRunningProcesses",
            "nvmlDeviceGetGraphicsRunningProcesses",
            "nvmlDeviceGetMPSComputeRunningProcesses",
        ):
            function = getattr(self.nv, f"{name}_v3", None) or getattr(self.nv, name, None)
            if function is None:
                continue
            listed: list[Any] = self.guarded(name, function, self.handle) or []
            for process in listed:
                used, before = process.usedGpuMemory, found.get(process.pid)
                found[process.pid] = used if before is None else max(before, used or 0)
        return found

    def close(self) -> None:
        """Give back what NVML holds for this device."""
        if self._gpm is not None:
            self.guarded("gpm/close", self._gpm.close)
            self._gpm = None

    def guarded(self, name: str, call: Callable[..., T], *arguments: Any) -> T | None:
        """Return what the call gives; None where NVML refuses it now or for ever.

        Raises:
            DeviceLostError, SessionLostError: The device, or all of NVML, is gone.
        """
        if name in self._never:
            return None
        try:
            found = call(*arguments)
        except self.nv.NVMLError as error:
            self._failed(name, int(error.value))
            return None
        self._answered = True
        return found

    def _failed(self, name: str, code: int) -> None:
        if code in (LOST, RESET_REQUIRED):
            raise DeviceLostError
        if code == UNINITIALIZED:
            raise SessionLostError
        if code == UNKNOWN:
            self._unknown_count += 1
        if code in NEVER:
            self._never.add(name)

    def _ask(self, question: Question) -> dict[str, float] | None:
        for name, ask in question.ways:
            found = self.guarded(name, ask, self.nv, self.handle)
            if found is not None:
                return found
            if name not in self._never:
                return None  # it works as a rule
        return None

    def _fields(self, now_s: float) -> dict[str, float]:
        wanted = [each for each in FIELDS if each[1] not in self._never]
        if not wanted:
            return {}
        constants = {name: constant for name, constant, _, _ in wanted}
        answers = self.guarded("fields", read_fields, self.nv, self.handle, wanted) or []
        values = {}
        for name, value, code in answers:
            if value is None:
                self._failed(constants[name], code)
            elif not name.startswith("#"):
                values[name] = value
            else:
                values.update(self._rate(name, value, now_s))
        return values

    def _rate(self, name: str, value: float, now_s: float) -> dict[str, float]:
        before = self._counters.get(name)
        self._counters[name] = Rate(value, now_s)
        if before is None or now_s <= before.at_s or value < before.value:
            return {}
        return {name[1:]: (value - before.value) / (now_s - before.at_s)}

    def _read_gpm(self, now_s: float) -> dict[str, float]:
        if self._gpm is None:
            if not supports_gpm(self.nv, self.handle):
                self._never.add("gpm")
                return {}
            self._gpm = GpmMeter(self.nv, self.handle)
        return self._gpm.read(now_s)
