"""What one GPU is asked for in a sample: each question by itself, under W&B's names and units.

In: the pynvml module and a device's handle. Out: numbers by name. A question raises NVMLError; whoever asks
decides what that means. Where NVML has two ways to ask, they stand in order, and the first that works counts.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

#: (pynvml, handle) -> values
Ask = Callable[[Any, Any], dict[str, float]]
KIB = 1024
#: Scope of a field that sums over all links.
ALL_LINKS = 0xFFFFFFFF
MAX_LINKS = 32

#: Bits of the clocks' event reasons (NVML: nvmlClocksEventReason*), of which NVML 13 has these.
REASONS = {
    "gpuIdle": 0x1,
    "applicationsClocks": 0x2,
    "swPowerCap": 0x4,
    "hwSlowdown": 0x8,
    "syncBoost": 0x10,
    "swThermalSlowdown": 0x20,
    "hwThermalSlowdown": 0x40,
    "hwPowerBrakeSlowdown": 0x80,
    "displayClocks": 0x100,
}


@dataclass(frozen=True, slots=True)
class Question:
    """One thing to ask. `ways`: by name of the NVML function, the newest first."""

    name: str
    ways: tuple[tuple[str, Ask], ...]


def _one(name: str, function: str, ask: Callable[[Any, Any], float], *more: tuple[str, Any]) -> Question:
    return Question(name, tuple((way, _named(name, each)) for way, each in ((function, ask), *more)))


def _named(name: str, ask: Callable[[Any, Any], float]) -> Ask:
    return lambda nv, gpu: {name: float(ask(nv, gpu))}


def _utilization(nv: Any, gpu: Any) -> dict[str, float]:
    rates = nv.nvmlDeviceGetUtilizationRates(gpu)
    return {"gpu": float(rates.gpu), "memory": float(rates.memory)}


def memory(nv: Any, gpu: Any) -> dict[str, float]:
    """Return how much of the memory is taken; works on MIG devices too."""
    found = nv.nvmlDeviceGetMemoryInfo(gpu)
    values = {"memoryAllocatedBytes": float(found.used)}
    if found.total:
        values["memoryAllocated"] = 100 * found.used / found.total
    return values


def _power(nv: Any, gpu: Any) -> dict[str, float]:
    return {"powerWatts": nv.nvmlDeviceGetPowerUsage(gpu) / 1000}


def _power_limit(nv: Any, gpu: Any) -> dict[str, float]:
    return {"enforcedPowerLimitWatts": nv.nvmlDeviceGetEnforcedPowerLimit(gpu) / 1000}


def _ecc(kind: str) -> Callable[[Any, Any], float]:
    def ask(nv: Any, gpu: Any) -> float:
        # Volatile counts begin with the driver: lifetime counts stay above zero after a repair.
        error = getattr(nv, f"NVML_MEMORY_ERROR_TYPE_{kind}")
        count = nv.nvmlDeviceGetMemoryErrorCounter(
            gpu, error, nv.NVML_VOLATILE_ECC, nv.NVML_MEMORY_LOCATION_DEVICE_MEMORY
        )
        return float(count)

    return ask


def _reasons(function: str) -> Ask:
    def ask(nv: Any, gpu: Any) -> dict[str, float]:
        mask = int(getattr(nv, function)(gpu))
        values = {f"throttle.{name}": float(bool(mask & bit)) for name, bit in REASONS.items()}
        return {"throttleReasons": float(mask), **values}

    return ask


def _remapped_rows(nv: Any, gpu: Any) -> dict[str, float]:
    correctable, uncorrectable, pending, failed = nv.nvmlDeviceGetRemappedRows(gpu)
    return {
        "remappedRowsCorrectable": float(correctable),
        "remappedRowsUncorrectable": float(uncorrectable),
        "remappedRowsPending": float(bool(pending)),
        "remappedRowsFailure": float(bool(failed)),
    }


def _links(nv: Any, gpu: Any) -> dict[str, float]:
    active = links = 0
    for link in range(MAX_LINKS):
        try:
            state = nv.nvmlDeviceGetNvLinkState(gpu, link)
        except nv.NVMLError:
            if link == 0:
                raise
            break
        links += 1
        active += bool(state)
    return {"nvlinkLinks": float(links), "nvlinkActiveLinks": float(active)}


def _speed(nv: Any, gpu: Any) -> float:
    return float(nv.nvmlDeviceGetPcieSpeed(gpu)) * 1e6


def pcie_throughput(nv: Any, gpu: Any) -> dict[str, float]:
    """Return the bytes a second over 20 ms; the call waits that long for each direction."""
    return {
        "pcieTxBytes": nv.nvmlDeviceGetPcieThroughput(gpu, nv.NVML_PCIE_UTIL_TX_BYTES) * KIB,
        "pcieRxBytes": nv.nvmlDeviceGetPcieThroughput(gpu, nv.NVML_PCIE_UTIL_RX_BYTES) * KIB,
    }


def _clock(kind: str) -> Callable[[Any, Any], float]:
    return lambda nv, gpu: nv.nvmlDeviceGetClockInfo(gpu, getattr(nv, f"NVML_CLOCK_{kind}"))


QUESTIONS: tuple[Question, ...] = (
    Question("utilization", (("nvmlDeviceGetUtilizationRates", _utilization),)),
    Question("memory", (("nvmlDeviceGetMemoryInfo", memory),)),
    _one(
        "temp",
        "nvmlDeviceGetTemperatureV",
        lambda nv, gpu: nv.nvmlDeviceGetTemperatureV(gpu, nv.NVML_TEMPERATURE_GPU),
        (
            "nvmlDeviceGetTemperature",
            lambda nv, gpu: nv.nvmlDeviceGetTemperature(gpu, nv.NVML_TEMPERATURE_GPU),
        ),
    ),
    Question("power", (("nvmlDeviceGetPowerUsage", _power),)),
    Question("power_limit", (("nvmlDeviceGetEnforcedPowerLimit", _power_limit),)),
    _one("smClock", "nvmlDeviceGetClockInfo/SM", _clock("SM")),
    _one("memoryClock", "nvmlDeviceGetClockInfo/MEM", _clock("MEM")),
    _one("graphicsClock", "nvmlDeviceGetClockInfo/GRAPHICS", _clock("GRAPHICS")),
    _one("correctedMemoryErrors", "nvmlDeviceGetMemoryErrorCounter/C", _ecc("CORRECTED")),
    _one("uncorrectedMemoryErrors", "nvmlDeviceGetMemoryErrorCounter/U", _ecc("UNCORRECTED")),
    _one("fanSpeed", "nvmlDeviceGetFanSpeed", lambda nv, gpu: nv.nvmlDeviceGetFanSpeed(gpu)),
    _one(
        "encoderUtilization",
        "nvmlDeviceGetEncoderUtilization",
        lambda nv, gpu: nv.nvmlDeviceGetEncoderUtilization(gpu)[0],
    ),
    _one(
        "decoderUtilization",
        "nvmlDeviceGetDecoderUtilization",
        lambda nv, gpu: nv.nvmlDeviceGetDecoderUtilization(gpu)[0],
    ),
    _one(
        "pcieLinkGen",
        "nvmlDeviceGetCurrPcieLinkGeneration",
        lambda nv, gpu: nv.nvmlDeviceGetCurrPcieLinkGeneration(gpu),
    ),
    _one("pcieLinkSpeed", "nvmlDeviceGetPcieSpeed", _speed),
    _one(
        "pcieLinkWidth",
        "nvmlDeviceGetCurrPcieLinkWidth",
        lambda nv, gpu: nv.nvmlDeviceGetCurrPcieLinkWidth(gpu),
    ),
    _one(
        "maxPcieLinkGen",
        "nvmlDeviceGetMaxPcieLinkGeneration",
        lambda nv, gpu: nv.nvmlDeviceGetMaxPcieLinkGeneration(gpu),
    ),
    _one(
        "maxPcieLinkWidth",
        "nvmlDeviceGetMaxPcieLinkWidth",
        lambda nv, gpu: nv.nvmlDeviceGetMaxPcieLinkWidth(gpu),
    ),
    _one(
        "pcieReplayCounter",
        "nvmlDeviceGetPcieReplayCounter",
        lambda nv, gpu: nv.nvmlDeviceGetPcieReplayCounter(gpu),
    ),
    Question(
        "throttle",
        tuple(
            (name, _reasons(name))
            for name in (
                "nvmlDeviceGetCurrentClocksEventReasons",
                "nvmlDeviceGetCurrentClocksThrottleReasons",
            )
        ),
    ),
    Question("remapped_rows", (("nvmlDeviceGetRemappedRows", _remapped_rows),)),
    Question("nvlink", (("nvmlDeviceGetNvLinkState", _links),)),
)

#: Fields that are asked for in one call: name, pynvml's constant, scope, factor into the name's unit.
FIELDS: tuple[tuple[str, str, int | None, float], ...] = (
    ("energyJoules", "NVML_FI_DEV_TOTAL_ENERGY_CONSUMPTION", None, 1e-3),
    ("memoryTemp", "NVML_FI_DEV_MEMORY_TEMP", None, 1.0),
    ("retiredPagesSingleBit", "NVML_FI_DEV_RETIRED_SBE", None, 1.0),
    ("retiredPagesDoubleBit", "NVML_FI_DEV_RETIRED_DBE", None, 1.0),
    ("retiredPagesPending", "NVML_FI_DEV_RETIRED_PENDING", None, 1.0),
    ("nvlinkReplayErrors", "NVML_FI_DEV_NVLINK_REPLAY_ERROR_COUNT_TOTAL", None, 1.0),
    ("nvlinkRecoveryErrors", "NVML_FI_DEV_NVLINK_RECOVERY_ERROR_COUNT_TOTAL", None, 1.0),
    ("nvlinkCrcFlitErrors", "NVML_FI_DEV_NVLINK_CRC_FLIT_ERROR_COUNT_TOTAL", None, 1.0),
    ("nvlinkCrcDataErrors", "NVML_FI_DEV_NVLINK_CRC_DATA_ERROR_COUNT_TOTAL", None, 1.0),
    # Counters from which rates are made.
    ("#nvlinkTxBytes", "NVML_FI_DEV_NVLINK_THROUGHPUT_DATA_TX", ALL_LINKS, float(KIB)),
    ("#nvlinkRxBytes", "NVML_FI_DEV_NVLINK_THROUGHPUT_DATA_RX", ALL_LINKS, float(KIB)),
    ("#pcieTxBytes", "NVML_FI_DEV_PCIE_COUNT_TX_BYTES", None, 1.0),
    ("#pcieRxBytes", "NVML_FI_DEV_PCIE_COUNT_RX_BYTES", None, 1.0),
)


def read_fields(
    nv: Any, gpu: Any, wanted: Sequence[tuple[str, str, int | None, float]]
) -> list[tuple[str, float | None, int]]:
    """Return (name, value, NVML's code) of each field; one that fails has no value and spoils no other.

    Raises:
        NVMLError: The call itself failed.
    """
    known = [each for each in wanted if hasattr(nv, each[1])]
    ids = [getattr(nv, name) if scope is None else (getattr(nv, name), scope) for _, name, scope, _ in known]
    if not ids:
        return []
    found: list[tuple[str, float | None, int]] = []
    for (name, _, _, factor), answer in zip(known, nv.nvmlDeviceGetFieldValues(gpu, ids), strict=True):
        if answer.nvmlReturn != nv.NVML_SUCCESS:
            found.append((name, None, int(answer.nvmlReturn)))
        else:
            found.append((name, field_number(nv, answer) * factor, 0))
    return found


def field_number(nv: Any, answer: Any) -> float:
    """Return the number in a field's union by its type; NaN for a type that is not known."""
    members = {
        "NVML_VALUE_TYPE_DOUBLE": "dVal",
        "NVML_VALUE_TYPE_UNSIGNED_INT": "uiVal",
        "NVML_VALUE_TYPE_UNSIGNED_LONG": "ulVal",
        "NVML_VALUE_TYPE_UNSIGNED_LONG_LONG": "ullVal",
        "NVML_VALUE_TYPE_SIGNED_LONG_LONG": "sllVal",
        "NVML_VALUE_TYPE_SIGNED_INT": "siVal",
        "NVML_VALUE_TYPE_UNSIGNED_SHORT": "usVal",
    }
    for constant, member in members.items():
        if getattr(nv, constant, None) == answer.valueType:
            return float(getattr(answer.value, member))
    return float("nan")
