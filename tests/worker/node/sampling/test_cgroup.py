"""Limits and usage of containers, of both versions, over trees of files as the kernel makes them; and here."""

from __future__ import annotations

import os
from pathlib import Path

from runfold.node.sampling.cgroup import CgroupReading, Cgroups


class Machine:
    """A fake /proc and /sys/fs/cgroup."""

    def __init__(self, folder: Path, mountinfo: str, cgroup: str) -> None:
        self.proc, self.sys = folder / "proc", folder / "sys"
        self.write(
            "proc/self/mountinfo", mountinfo.replace("$SYS", str(self.sys).replace(" ", "\\040")), folder
        )
        self.write("proc/7/cgroup", cgroup, folder)
        self.folder = folder

    def write(self, path: str, text: str, folder: Path | None = None) -> None:
        file = (folder or self.folder) / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)

    def read(self) -> CgroupReading:
        group = Cgroups(self.proc).of(7)
        assert group is not None
        return group.read()


V2 = "30 24 0:26 / $SYS rw,nosuid - cgroup2 cgroup2 rw,nsdelegate\n"


def test_version_2_takes_the_tightest_limit_of_the_groups_above(tmp_path: Path):
    machine = Machine(tmp_path, V2, "0::/kubepods/pod1/app\n")
    machine.write("sys/cpu.stat", "usage_usec 1\n")
    machine.write("sys/kubepods/pod1/cpu.max", "150000 100000\n")
    machine.write(
        "sys/kubepods/pod1/cpu.stat",
        "usage_usec 9\nnr_periods 200\nnr_throttled 50\nthrottled_usec 2500000\n",
    )
    machine.write("sys/kubepods/pod1/app/cpu.max", "max 100000\n")
    machine.write("sys/kubepods/pod1/memory.max", "8000\n")
    machine.write("sys/kubepods/pod1/memory.current", "7000\n")
    machine.write("sys/kubepods/pod1/memory.stat", "anon 5000\ninactive_file 1500\n")
    machine.write("sys/kubepods/pod1/app/memory.max", "9000\n")
    machine.write("sys/kubepods/pod1/app/memory.events", "oom 2\noom_kill 1\n")
    assert machine.read() == CgroupReading(
        cpu_limit=1.5,
        periods=200,
        throttled_periods=50,
        throttled_s=2.5,
        memory_limit_bytes=8000,
        memory_bytes=7000,
        working_set_bytes=5500,
        oom_kills=1,
    )


def test_version_2_without_limits_has_none(tmp_path: Path):
    machine = Machine(tmp_path, V2, "0::/\n")
    machine.write("sys/memory.max", "max\n")
    machine.write("sys/cpu.max", "max 100000\n")
    assert machine.read() == CgroupReading()


def test_version_1_finds_each_controller_where_it_is_mounted(tmp_path: Path):
    machine = Machine(
        tmp_path,
        "31 24 0:27 /docker/abc $SYS/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n"
        "32 24 0:28 /docker/abc $SYS/memory rw - cgroup cgroup rw,memory\n"
        "33 24 0:29 / $SYS/unified rw - cgroup2 cgroup2 rw\n",
        "12:cpu,cpuacct:/docker/abc\n5:memory:/docker/abc/inner\n0::/\n",
    )
    machine.write("sys/unified/cgroup.procs", "")
    machine.write("sys/cpu,cpuacct/cpu.cfs_quota_us", "50000\n")
    machine.write("sys/cpu,cpuacct/cpu.cfs_period_us", "100000\n")
    machine.write("sys/cpu,cpuacct/cpu.stat", "nr_periods 10\nnr_throttled 4\nthrottled_time 3000000000\n")
    machine.write("sys/memory/memory.limit_in_bytes", "1000\n")
    machine.write("sys/memory/memory.usage_in_bytes", "600\n")
    machine.write("sys/memory/memory.stat", "total_inactive_file 100\n")
    machine.write("sys/memory/inner/memory.limit_in_bytes", "9223372036854771712\n")
    machine.write("sys/memory/inner/memory.oom_control", "oom_kill_disable 0\nunder_oom 0\noom_kill 3\n")
    assert machine.read() == CgroupReading(0.5, 10, 4, 3.0, 1000, 600, 500, 3)


def test_a_group_that_is_not_mounted_here_is_none_or_the_top_of_what_is(tmp_path: Path):
    machine = Machine(tmp_path, V2, "0::/../../other\n")
    machine.write("sys/memory.max", "5\n")
    assert Cgroups(machine.proc).of(7) is None
    machine = Machine(tmp_path, V2, "0::/not/visible/here\n")
    machine.write("sys/memory.max", "5\n")
    assert machine.read().memory_limit_bytes == 5


def test_a_path_with_blanks_and_files_full_of_rubbish_do_no_harm(tmp_path: Path):
    machine = Machine(tmp_path / "a b", V2 + "rubbish\n", "0::/x\nrubbish\n")
    machine.write("sys/x/memory.max", "many\n")
    machine.write("sys/x/cpu.max", "1\n")
    machine.write("sys/x/cpu.stat", "nr_periods\n\nthrottled_usec -1\n")
    machine.write("sys/memory.max", "77\n")
    assert machine.read().memory_limit_bytes == 77


def test_no_cgroups_no_group(tmp_path: Path):
    assert Cgroups(tmp_path).of(7) is None


def test_the_group_of_this_process_can_be_read():
    group = Cgroups().of(os.getpid())
    if group is not None:  # there is none outside Linux
        found = group.read()
        assert found.memory_bytes is None or found.memory_bytes > 0
        assert found.cpu_limit is None or found.cpu_limit > 0


def test_processes_of_one_group_share_what_was_found(tmp_path: Path):
    machine = Machine(tmp_path, V2, "0::/x\n")
    machine.write("proc/8/cgroup", "0::/x\n")
    machine.write("proc/9/cgroup", "0::/\n")
    machine.write("sys/x/memory.max", "5\n")
    groups = Cgroups(machine.proc)
    assert groups.of(7) is groups.of(8) is not groups.of(9)
