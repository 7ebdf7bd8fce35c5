"""NVIDIA's GPU performance monitoring (Hopper and later): how busy its parts were since the sample before.

In: pynvml, a device's handle. Out: percentages and bytes a second, by the names that W&B and DCGM use.
"""

from __future__ import annotations

from typing import Any

MIB = 1024 * 1024
#: pynvml's constant, name, factor into the name's unit.
METRICS = (
    ("NVML_GPM_METRIC_SM_UTIL", "smActive", 1.0),
    ("NVML_GPM_METRIC_SM_OCCUPANCY", "smOccupancy", 1.0),
    ("NVML_GPM_METRIC_ANY_TENSOR_UTIL", "pipeTensorActive", 1.0),
    ("NVML_GPM_METRIC_DRAM_BW_UTIL", "dramActive", 1.0),
    ("NVML_GPM_METRIC_FP64_UTIL", "pipeFp64Active", 1.0),
    ("NVML_GPM_METRIC_FP32_UTIL", "pipeFp32Active", 1.0),
    ("NVML_GPM_METRIC_FP16_UTIL", "pipeFp16Active", 1.0),
    ("NVML_GPM_METRIC_HMMA_TENSOR_UTIL", "pipeTensorHmmaActive", 1.0),
    ("NVML_GPM_METRIC_PCIE_TX_PER_SEC", "pcieTxBytes", MIB),
    ("NVML_GPM_METRIC_PCIE_RX_PER_SEC", "pcieRxBytes", MIB),
    ("NVML_GPM_METRIC_NVLINK_TOTAL_TX_PER_SEC", "nvlinkTxBytes", MIB),
    ("NVML_GPM_METRIC_NVLINK_TOTAL_RX_PER_SEC", "nvlinkRxBytes", MIB),
)
#: NVML wants at least 0.1 s between the two samples of a pair.
MIN_INTERVAL_S = 0.1


class GpmMeter:
    """Two samples of one device, taken in turns. Every method raises NVMLError."""

    def __init__(self, nv: Any, gpu: Any) -> None:
        self._nv = nv
        self._gpu = gpu
        self._before: Any = None
        self._before_s = 0.0

    def read(self, now_s: float) -> dict[str, float]:
        """Return averages since the last call; {} with the first one, or too soon after another."""
        if self._before is not None and now_s - self._before_s < MIN_INTERVAL_S:
            return {}
        nv = self._nv
        sample = nv.nvmlGpmSampleAlloc()
        try:
            nv.nvmlGpmSampleGet(self._gpu, sample)
        except nv.NVMLError:
            nv.nvmlGpmSampleFree(sample)
            raise
        before, self._before, self._before_s = self._before, sample, now_s
        if before is None:
            return {}
        try:
            return self._compare(before, sample)
        finally:
            nv.nvmlGpmSampleFree(before)

    def close(self) -> None:
        """Give the sample's memory back."""
        before, self._before = self._before, None
        if before is not None:
            self._nv.nvmlGpmSampleFree(before)

    def _compare(self, before: Any, after: Any) -> dict[str, float]:
        nv = self._nv
        asked = [each for each in METRICS if hasattr(nv, each[0])]
        request = nv.c_nvmlGpmMetricsGet_t()
        request.version = nv.NVML_GPM_METRICS_GET_VERSION
        request.numMetrics = len(asked)
        request.sample1, request.sample2 = before, after
        for place, (constant, _, _) in enumerate(asked):
            request.metrics[place].metricId = getattr(nv, constant)
        nv.nvmlGpmMetricsGet(request)
        answers = [request.metrics[place] for place in range(len(asked))]
        return {
            name: float(answer.value) * factor
            for (_, name, factor), answer in zip(asked, answers, strict=True)
            if answer.nvmlReturn == nv.NVML_SUCCESS
        }


def supports_gpm(nv: Any, gpu: Any) -> bool:
    """Return True if the device has it; raises NVMLError."""
    return bool(nv.nvmlGpmQueryDeviceSupport(gpu).isSupportedDevice)
