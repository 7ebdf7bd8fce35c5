"""The machine's own numbers: over a fake /proc where they are known, and over the real one."""

from __future__ import annotations

import math
import sys
from collections import namedtuple
from pathlib import Path

import psutil
import pytest

from runfold.node.sampling.host import Host, devices_behind, file_systems
from runfold.node.sampling.plausible import plausible

Part = namedtuple("Part", "mountpoint device")
CPU = "cpu  {0} 0 0 {1} {2} 0 0 0 0 0\ncpu0 {0} 0 0 0 0 0 0 0 0 0\ncpu1 0 0 0 {1} {2} 0 0 0 0 0\n"


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_processors_and_memory_over_known_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(psutil, "PROCFS_PATH", str(tmp_path))
    (tmp_path / "stat").write_text(CPU.format(0, 0, 0))
    (tmp_path / "vmstat").write_text("pswpin 0\npswpout 0\n")
    (tmp_path / "meminfo").write_text(
        "MemTotal: 1000 kB\nMemFree: 100 kB\nMemAvailable: 300 kB\nBuffers: 1 kB\nCached: 1 kB\n"
        "Active: 1 kB\nInactive: 1 kB\nShmem: 1 kB\nSwapTotal: 200 kB\nSwapFree: 150 kB\n"
    )
    host = Host([])
    host.sample()
    assert host.idle_ratio is None
    (tmp_path / "stat").write_text(CPU.format(1000, 600, 400))
    found = host.sample()
    assert host.idle_ratio == pytest.approx(0.5)
    assert found["host.cpu_percent"] == pytest.approx(50)
    assert found["host.cpu_iowait_percent"] == pytest.approx(20)
    assert found["host.cpu_max_core_percent"] == pytest.approx(100)
    assert found["memory_percent"] == pytest.approx(70)
    assert found["proc.memory.availableMB"] == pytest.approx(300 / 1024)
    assert found["swap.used_percent"] == pytest.approx(25)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_what_a_container_does_not_show_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(psutil, "PROCFS_PATH", str(tmp_path))
    found = Host([Path("/")]).sample()
    assert {"disk./.usagePercent", "host.load_1min"} <= found.keys()
    assert {"memory_percent", "host.cpu_percent", "network.sent"}.isdisjoint(found)


def test_the_real_machine_says_plausible_numbers(tmp_path: Path):
    host = Host([Path("/"), tmp_path])
    host.sample()
    found = host.sample()
    assert found == plausible(found)
    assert all(math.isfinite(value) for value in found.values())
    assert {
        "memory_percent",
        "proc.memory.availableMB",
        "disk./.usagePercent",
        "disk./.usageGB",
        "host.load_1min",
    } <= set(found)
    assert 0 < found["memory_percent"] < 100
    assert host.memory_bytes > 1 << 20 and host.logical_cpu_count >= host.cpu_count >= 1


def test_disks_are_those_behind_the_paths(tmp_path: Path):
    parts = [Part("/", "/dev/nvme0n1p2"), Part("/data", "/dev/sdb1"), Part("/boot", "/dev/sda1")]
    known = ["nvme0n1p2", "sdb1", "sda1", "loop0"]
    assert devices_behind([Path("/data/spool"), Path("/")], parts, known) == ["sdb1", "nvme0n1p2"]
    assert devices_behind([Path("/x")], [], [*known, "ram0", "zram1"]) == ["nvme0n1p2", "sdb1", "sda1"]
    (tmp_path / "a").mkdir()
    assert file_systems([tmp_path, tmp_path / "a", tmp_path / "none"]) == [tmp_path]
