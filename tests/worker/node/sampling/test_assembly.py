"""What a sample consists of, and what it leaves out."""

from __future__ import annotations

import math

import pytest

from runfold.node.sampling.assembly import Findings, Watched, assemble, used_uuids
from runfold.node.sampling.cgroup import CgroupReading
from runfold.node.sampling.nvml import GpuSample
from runfold.node.sampling.plausible import is_plausible
from runfold.node.sampling.process_tree import TreeReading
from runfold.node.sampling.visible_devices import Device

ONE, TWO = Watched(b"\1" * 16, 10), Watched(b"\2" * 16, 20)
W1, W2 = f"w/{'01' * 16}/", f"w/{'02' * 16}/"
MIB = 1024 * 1024


def tree(*pids: int, cpu: float | None = 150.0) -> TreeReading:
    return TreeReading(pids, 512 * MIB, 9, cpu, 3 * MIB, 0, 5)


def test_a_writer_in_a_container_is_measured_by_its_limits():
    limits = CgroupReading(1.5, 200, 50, 2.5, 1024 * MIB, 768 * MIB, 700 * MIB, 1)
    found = Findings(
        host={"memory_percent": 20.0, "proc.memory.availableMB": 9e4, "host.load_1min": 1.0},
        trees={10: tree(10, 11)},
        limits={10: limits},
        throttled_percent={10: 25.0},
        cpu_count=64,
        memory_bytes=1 << 40,
    )
    assert assemble(found, [ONE]) == {
        "host.load_1min": 1.0,
        "memory_percent": 75.0,
        "proc.memory.availableMB": 256.0,
        "proc.memory.oomKills": 1.0,
        "proc.cpu.throttledPercent": 25.0,
        "cgroup.cpu_limit": 1.5,
        "cgroup.cpu_throttled_s": 2.5,
        "cgroup.memory_limitMB": 1024.0,
        "cgroup.memory_working_setMB": 700.0,
        W1 + "cpu": 100.0,
        W1 + "proc.memory.rssMB": 512.0,
        W1 + "proc.memory.percent": 50.0,
        W1 + "proc.cpu.threads": 9.0,
        W1 + "proc.count": 2.0,
        W1 + "proc.io.readMB": 3.0,
        W1 + "proc.io.writtenMB": 0.0,
        W1 + "proc.openFiles": 5.0,
    }


def test_without_limits_the_machine_is_the_measure():
    found = Findings(trees={10: tree(10)}, limits={10: CgroupReading()}, cpu_count=2, memory_bytes=1024 * MIB)
    values = assemble(found, [ONE])
    assert (values[W1 + "cpu"], values[W1 + "proc.memory.percent"]) == (75.0, 50.0)
    assert not [name for name in values if name.startswith("cgroup.")]


def test_jobs_in_groups_of_their_own_have_limits_of_their_own():
    found = Findings(
        host={"memory_percent": 20.0},
        limits={10: CgroupReading(memory_limit_bytes=100, memory_bytes=50), 20: CgroupReading(oom_kills=3)},
        is_one_cgroup=False,
    )
    values = assemble(found, [ONE, TWO])
    assert values["memory_percent"] == 20.0
    assert values[W1 + "memory_percent"] == 50.0
    assert values[W2 + "proc.memory.oomKills"] == 3.0


def test_what_can_not_be_is_left_out():
    found = Findings(
        host={"memory_percent": math.nan, "host.load_1min": math.inf, "network.sent": 1e19, "cpu": -1.0},
        trees={10: tree(10, cpu=None)},
    )
    values = assemble(found, [ONE, TWO])
    assert "memory_percent" not in values and "network.sent" not in values and "host.load_1min" not in values
    assert W1 + "cpu" not in values and not [name for name in values if name.startswith(W2)]
    assert is_plausible("g/GPU-1/temp", 84) and not is_plausible("g/GPU-1/temp", 4294967200)
    assert is_plausible("disk./data.1.usagePercent", 100) and not is_plausible("disk./.usagePercent", 101.5)


def test_memory_on_devices_goes_to_the_writer_whose_processes_hold_it():
    gpus = GpuSample(
        values={"g/A/temp": 40.0},
        processes={"A": {10: 100, 11: 23, 99: 7}, "B": {20: None}, "M": {20: 50}},
        devices=(Device(0, "A"), Device(1, "B"), Device(1, "M", parent="B", mig=0)),
    )
    found = Findings(trees={10: tree(10, 11), 20: tree(20)}, gpus=gpus)
    values = assemble(found, [ONE, TWO])
    assert values["g/A/temp"] == 40.0 and values["nvml.hung"] == 0.0
    assert values[W1 + "g/A/usedMemoryBytes"] == 123.0 and values[W1 + "g/A/inUse"] == 1.0
    assert values[W2 + "g/B/inUse"] == 1.0 and W2 + "g/B/usedMemoryBytes" not in values
    assert used_uuids(gpus, (10, 11)) == ["A"]
    assert used_uuids(gpus, (20,)) == ["M"]  # the part, not the whole that it is of
    assert assemble(Findings(gpus_hang=True), []) == {"nvml.hung": pytest.approx(1.0)}
    assert assemble(Findings(), []) == {}
