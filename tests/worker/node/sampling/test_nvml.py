"""NVIDIA devices through the real binding, over a scripted driver; and over a real one where there is one."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest

from runfold.node.sampling.nvml_questions import REASONS
from support.nvml_stub import NOT_SUPPORTED, UNKNOWN, NvmlStub, sampling_process, uuid
from support.processes import until


def of(sample: dict[str, Any] | None, gpu: str) -> dict[str, float]:
    """Return what one device said, by name."""
    assert sample is not None
    prefix = f"g/{gpu}/"
    return {
        name.removeprefix(prefix): value
        for name, value in sample["values"].items()
        if name.startswith(prefix)
    }


def test_without_a_driver_there_is_no_sample_and_no_error(tmp_path: Path):
    with sampling_process({"LD_LIBRARY_PATH": str(tmp_path)}) as probe:
        if (sample := probe.sample(0)) is not None:
            pytest.skip(f"this machine has an NVIDIA driver: {sample['driver']}")
        assert probe.sample(1000) is None


def test_a_driver_that_refuses_to_start_is_none(tmp_path: Path):
    with sampling_process(NvmlStub(tmp_path).env) as probe:
        assert probe.sample(0) is None


def test_devices_say_all_there_is_in_wandbs_units(tmp_path: Path):
    stub = NvmlStub(tmp_path, **{
        "devices": 2, "0.util": 97, "0.memory_util": 61, "0.total": 80 << 30, "0.used": 20 << 30, "0.temp": 88, "0.fan": 30,
        "0.power": 690500, "0.limit": 700000, "0.clock": 1980, "0.corrected": 3, "0.uncorrected": 1, "0.encoder": 7,
        "0.decoder": 8, "0.replays": 5, "0.reasons": hex(0x40 | 0x4), "0.remapped": "2 1 1 0", "0.links": 18,
        "0.active_links": 17, "0.field.83": 123_456, "0.field.29": 4, "0.field.52": 6,
        "0.processes": f"1234:{5 << 30} 77:-", "0.graphics": "1234:100",
    })  # fmt: skip
    with sampling_process(stub.env) as probe:
        sample = probe.sample(0)
        assert sample is not None
        assert (sample["driver"], sample["cuda"]) == ("550.54.15", "12.4")
        assert [(gpu["index"], gpu["uuid"], gpu["name"]) for gpu in sample["devices"]] == [
            (0, uuid(0), "NVIDIA Stub 0"),
            (1, uuid(1), "NVIDIA Stub 1"),
        ]
        assert sample["devices"][0]["memory_bytes"] == 80 << 30
        assert sample["devices"][0]["pci_bus"] == "00000000:01:00.0"
        assert sample["processes"] == {uuid(0): {"1234": 5 << 30, "77": None}, uuid(1): {}}
        first = of(sample, uuid(0))
        throttled = {
            f"throttle.{name}": float(name in ("swPowerCap", "hwThermalSlowdown")) for name in REASONS
        }
        assert first == throttled | {
            "gpu": 97, "memory": 61, "memoryAllocated": 25, "memoryAllocatedBytes": 20 << 30, "temp": 88,
            "powerWatts": 690.5, "enforcedPowerLimitWatts": 700, "powerPercent": pytest.approx(98.642857),
            "smClock": 1981, "memoryClock": 1982, "graphicsClock": 1980, "correctedMemoryErrors": 3,
            "uncorrectedMemoryErrors": 1, "fanSpeed": 30, "encoderUtilization": 7, "decoderUtilization": 8,
            "pcieLinkGen": 4, "maxPcieLinkGen": 5, "pcieLinkWidth": 8, "maxPcieLinkWidth": 16, "pcieLinkSpeed": 16e9,
            "pcieTxBytes": 1000 * 1024, "pcieRxBytes": 2000 * 1024, "pcieReplayCounter": 5, "throttleReasons": 0x44,
            "remappedRowsCorrectable": 2, "remappedRowsUncorrectable": 1, "remappedRowsPending": 1,
            "remappedRowsFailure": 0, "nvlinkLinks": 18, "nvlinkActiveLinks": 17, "energyJoules": 123.456,
            "retiredPagesSingleBit": 4, "nvlinkReplayErrors": 6, "xidErrors": 0, "lost": 0,
        }  # fmt: skip
        # What this device does not have is missing, never 0.
        assert {"fanSpeed", "throttleReasons", "nvlinkLinks", "pcieReplayCounter"}.isdisjoint(
            of(sample, uuid(1))
        )


def test_counters_become_rates_and_one_that_goes_back_gives_none(tmp_path: Path):
    stub = NvmlStub(
        tmp_path,
        **{"devices": 1, "0.field.138": 1000, "0.field.139": 10, "0.field.197": 5000, "0.field.198": 0},
    )
    with sampling_process(stub.env) as probe:
        assert {"nvlinkTxBytes", "pcieTxBytes"}.isdisjoint(of(probe.sample(0), uuid(0)))
        stub.say({"0.field.138": 3000, "0.field.139": 5, "0.field.197": 25000})
        found = of(probe.sample(10), uuid(0))
        assert (found["nvlinkTxBytes"], found["pcieTxBytes"], found["pcieRxBytes"]) == (
            2000 * 1024 / 10,
            2000,
            0,
        )
        assert "nvlinkRxBytes" not in found


def test_hopper_tells_how_busy_its_parts_were_since_the_sample_before(tmp_path: Path):
    stub = NvmlStub(tmp_path, **{"devices": 1, "0.gpm": 42})
    with sampling_process(stub.env) as probe:
        assert "smActive" not in of(probe.sample(0), uuid(0))
        found = of(probe.sample(10), uuid(0))
        assert {found[name] for name in ("smActive", "smOccupancy", "pipeTensorActive", "dramActive")} == {42}
        assert found["nvlinkTxBytes"] == 42 << 20
        assert "pipeFp64Active" not in found  # the stub refuses this one


def test_a_failing_call_costs_its_metric_in_that_sample_only(tmp_path: Path):
    stub = NvmlStub(
        tmp_path,
        **{"devices": 1, "fail.nvmlDeviceGetTemperature": UNKNOWN, "fail.nvmlDeviceGetMemoryInfo": 23},
    )
    with sampling_process(stub.env) as probe:
        found = of(probe.sample(0), uuid(0))
        assert (
            {"temp", "memoryAllocated"}.isdisjoint(found)
            and found["powerWatts"] == 350
            and found["lost"] == 0
        )
        stub.say({"fail.nvmlDeviceGetTemperature": None, "fail.nvmlDeviceGetMemoryInfo": None})
        assert {"temp", "memoryAllocated"} <= of(probe.sample(10), uuid(0)).keys()


def test_what_is_not_supported_is_not_asked_again(tmp_path: Path):
    stub = NvmlStub(tmp_path, **{"devices": 1, "fail.nvmlDeviceGetPowerUsage": NOT_SUPPORTED})
    with sampling_process(stub.env) as probe:
        assert "powerWatts" not in of(probe.sample(0), uuid(0))
        stub.say({"fail.nvmlDeviceGetPowerUsage": None})
        assert "powerWatts" not in of(probe.sample(10), uuid(0))


def test_nonsense_of_a_driver_is_dropped(tmp_path: Path):
    stub = NvmlStub(
        tmp_path, **{"devices": 1, "0.util": 4294967295, "0.power": 4294967295, "0.temp": 4294967200}
    )
    with sampling_process(stub.env) as probe:
        found = of(probe.sample(0), uuid(0))
    assert {"gpu", "powerWatts", "powerPercent", "temp"}.isdisjoint(found)
    assert found["memory"] == 20


def test_a_lost_gpu_says_so_and_comes_back(tmp_path: Path):
    stub = NvmlStub(tmp_path, devices=2)
    with sampling_process(stub.env) as probe:
        assert of(probe.sample(0), uuid(1))["lost"] == 0
        stub.say({"1.lost": 1})
        sample = probe.sample(10)
        assert of(sample, uuid(1)) == {"lost": 1}
        assert of(sample, uuid(0))["temp"] == 40
        assert len(sample["devices"]) == 2  # type: ignore[index]
        stub.say({"1.lost": None})
        assert of(probe.sample(20), uuid(1)) == {"lost": 1}  # left alone for a while
        assert of(probe.sample(41), uuid(1))["temp"] == 40


def test_a_gpu_that_answers_nothing_but_unknown_is_lost(tmp_path: Path):
    stub = NvmlStub(tmp_path, devices=1)
    with sampling_process(stub.env) as probe:
        assert of(probe.sample(0), uuid(0))["lost"] == 0
        source = (Path(__file__).parents[3] / "support" / "nvml_stub.c").read_text()
        calls = {
            word.split("(")[0] for word in source.split() if word.startswith("nvmlDeviceGet") and "(" in word
        }
        calls |= {
            "nvmlDeviceGetFanSpeed",
            "nvmlDeviceGetPcieReplayCounter",
            "nvmlDeviceGetCurrentClocksEventReasons",
        }
        stub.say(
            {f"0.fail.{call}": UNKNOWN for call in calls} | {"0.fail.nvmlGpmQueryDeviceSupport": UNKNOWN}
        )
        assert of(probe.sample(10), uuid(0)) == {"lost": 1}


def test_a_gpu_that_vanishes_keeps_the_others_numbers(tmp_path: Path):
    stub = NvmlStub(tmp_path, **{"devices": 2, "0.uuid": "GPU-a", "1.uuid": "GPU-b"})
    with sampling_process(stub.env) as probe:
        probe.sample(0)
        stub.say({"0.lost": 1})
        probe.sample(10)
        stub.say(
            {"devices": 1, "0.uuid": "GPU-b", "1.uuid": None, "0.lost": None}
        )  # the driver numbers them anew
        sample = probe.sample(50)
        assert of(sample, "GPU-a") == {"lost": 1}
        assert of(sample, "GPU-b")["lost"] == 0
        assert [(gpu["index"], gpu["uuid"]) for gpu in sample["devices"]] == [(0, "GPU-a"), (1, "GPU-b")]  # type: ignore[index]


def test_xids_are_counted_and_the_last_is_told(tmp_path: Path):
    stub = NvmlStub(tmp_path, devices=2, xids="0:31")
    with sampling_process(stub.env) as probe:
        assert of(probe.sample(0), uuid(0)) | {"xidErrors": 1, "lastXid": 31} == of(probe.sample(1), uuid(0))
        stub.say({"xids": "0:31 0:79 1:48"})
        sample = probe.sample(10)
        assert {name: of(sample, uuid(0))[name] for name in ("xidErrors", "lastXid")} == {
            "xidErrors": 2,
            "lastXid": 79,
        }
        assert {name: of(sample, uuid(1))[name] for name in ("xidErrors", "lastXid")} == {
            "xidErrors": 1,
            "lastXid": 48,
        }


def test_mig_devices_have_their_own_memory_and_processes(tmp_path: Path):
    stub = NvmlStub(tmp_path, **{
        "devices": 1, "0.migs": 2, "0.mig.0.uuid": "MIG-x", "0.mig.1.uuid": "MIG-y", "0.mig.0.total": 1000,
        "0.mig.0.used": 250, "0.mig.1.processes": "9:99", "0.gpm": 1,
    })  # fmt: skip
    with sampling_process(stub.env) as probe:
        probe.sample(0)
        sample = probe.sample(10)
        assert of(sample, "MIG-x") == {"memoryAllocated": 25, "memoryAllocatedBytes": 250}
        assert sample["processes"]["MIG-y"] == {"9": 99}  # type: ignore[index]
        migs = [(gpu["parent"], gpu["mig"], gpu["gpu_instance"]) for gpu in sample["devices"]]  # type: ignore[index]
        assert migs == [(None, None, None), (uuid(0), 0, 1), (uuid(0), 1, 2)]
        assert "smActive" not in of(sample, uuid(0))


def test_a_driver_that_hangs_costs_its_metrics_until_it_is_back(tmp_path: Path):
    stub = NvmlStub(tmp_path, devices=1)
    with sampling_process(stub.env, "--timeout-s", "1") as probe:
        assert probe.sample(0)["sample"] is not None  # type: ignore[index]
        stub.say({"hang.nvmlDeviceGetPowerUsage": 2.5})
        hung = probe.sample(10)
        assert hung is not None and hung["is_hung"] and hung["sample"] is None
        moments = itertools.count(11)

        def back() -> dict[str, Any] | None:
            answer = probe.sample(next(moments))
            return answer if answer is not None and not answer["is_hung"] else None

        answer = until(back, 20)
        assert answer is not None and answer["sample"]["values"][f"g/{uuid(0)}/powerWatts"] == 350


@pytest.mark.gpu
def test_a_real_gpu_answers_in_plausible_numbers(real_gpu: None):
    with sampling_process({}) as probe:
        probe.sample(0)
        sample = probe.sample(10)
        assert sample is not None and sample["devices"]
        for gpu in sample["devices"]:
            if gpu["parent"] is None:
                found = of(sample, gpu["uuid"])
                assert {"memoryAllocatedBytes", "temp", "lost"} <= found.keys()
                assert 0 < found["temp"] < 120 and found["lost"] == 0
                assert 0 <= found["memoryAllocatedBytes"] <= gpu["memory_bytes"]
