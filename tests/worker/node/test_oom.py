"""Where memory cgroups count kills, and which death a kill is laid to."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from runfold.node import oom
from runfold.node.kernel_log import KernelLog
from runfold.node.memory_cgroup import KillCounter, counters_of
from runfold.node.oom import OomWatch

FIRST_NAMESPACE = 4026531836


def made(folder: Path, name: str, kills: int = 0) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / name
    file.write_text(f"low 0\nunder_oom 0\noom_kill {kills}\noom_group_kill 0\n")
    return file


def mount(root: str, point: Path, kind: str, options: str) -> str:
    return f"35 31 0:32 {root} {point} rw,relatime shared:9 - {kind} {kind} {options}\n"


def test_version_1_counts_in_the_processes_own_cgroup_only(tmp_path: Path) -> None:
    file = made(tmp_path / "job" / "step", "memory.oom_control", 2)
    made(tmp_path / "job", "memory.oom_control")
    found = counters_of(
        "9:name=systemd:/x\n4:cpu,memory:/job/step\n0::/elsewhere\n",
        mount("/", tmp_path, "cgroup", "rw,cpu,memory"),
    )
    assert found == [KillCounter("/job/step", 1, file)]
    assert found[0].read() == 2


def test_version_2_counts_above_it_too_but_not_at_the_root(tmp_path: Path) -> None:
    own = made(tmp_path / "a" / "b", "memory.events")
    above = made(tmp_path / "a", "memory.events")
    found = counters_of("0::/a/b\n", mount("/", tmp_path, "cgroup2", "rw"))
    assert found == [KillCounter("/a/b", 2, own), KillCounter("/a", 2, above)]


def test_a_container_that_mounts_its_own_cgroup_finds_it(tmp_path: Path) -> None:
    file = made(tmp_path / "with space", "memory.events")
    mounted = mount("/docker/1f", Path(str(tmp_path / "with space").replace(" ", "\\040")), "cgroup2", "rw")
    found = counters_of("0::/docker/1f\n", mounted)
    assert found == [KillCounter("/docker/1f", 2, file)]


@pytest.mark.parametrize(
    "cgroups",
    ["0::/../../other\n", "0::/outside\n", "", "garbage\n", "4:memory:/nowhere\n"],
)
def test_what_is_not_shown_counts_nothing(tmp_path: Path, cgroups: str) -> None:
    made(tmp_path, "memory.events")
    made(tmp_path, "memory.oom_control")
    mounts = mount("/inside", tmp_path, "cgroup2", "rw") + mount("/", tmp_path, "cgroup", "rw,memory")
    assert counters_of(cgroups, mounts + "garbage\n") == []


class Cgroup:
    """One cgroup in which everybody lives, and a kernel log that may be read or not."""

    def __init__(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, log: Path | None) -> None:
        self.files = [made(tmp_path / "a" / "b", "memory.events"), made(tmp_path / "a", "memory.events")]
        counters = [KillCounter("/a/b", 2, self.files[0]), KillCounter("/a", 2, self.files[1])]
        monkeypatch.setattr(oom, "read_counters_of", lambda _pid: counters)
        self.watch = OomWatch(
            KernelLog(str(log or tmp_path / "none"), namespace=FIRST_NAMESPACE, clock=lambda: 1000.0)
        )

    def kill(self, count: int) -> None:
        for file in self.files:
            if file.exists():
                file.write_text(f"oom_kill {count}\n")


def test_one_kill_is_laid_to_one_death(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cgroup = Cgroup(tmp_path, monkeypatch, None)
    cgroup.kill(5)
    for writer in (b"1", b"2", b"3"):
        cgroup.watch.begin(writer, 10)
    assert cgroup.watch.facts_of(b"3", 10) is None, "nobody was killed since it began"
    cgroup.kill(6)
    assert cgroup.watch.facts_of(b"1", 11) == {"kills": 1, "cgroup": "/a/b", "version": 2, "scope": "cgroup"}
    assert cgroup.watch.facts_of(b"2", 12) is None
    cgroup.watch.begin(b"4", 13)
    cgroup.kill(7)
    assert cgroup.watch.facts_of(b"4", 13) is not None
    cgroup.watch.close()


def test_a_cgroup_that_went_with_its_last_process_is_counted_above(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cgroup = Cgroup(tmp_path, monkeypatch, None)
    cgroup.watch.begin(b"1", 11)
    cgroup.files[0].unlink()
    cgroup.kill(1)
    found = cgroup.watch.facts_of(b"1", 11)
    assert found is not None
    assert found["cgroup"] == "/a"


def test_where_the_kernel_names_its_victims_nobody_else_is_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = tmp_path / "kmsg"
    log.write_bytes(b"3,1,1,-;Memory cgroup out of memory: Killed process 77 (old) total-vm:1kB\n")
    cgroup = Cgroup(tmp_path, monkeypatch, log)
    for writer in (b"1", b"2"):
        cgroup.watch.begin(writer, 10)
    with log.open("ab") as file:
        file.write(b"3,426,2,-;Memory cgroup out of memory: Killed process 12 (python3) total-vm:45kB\n")
    cgroup.kill(1)
    assert cgroup.watch.facts_of(b"1", 77) is None, "that was before we listened"
    found = cgroup.watch.facts_of(b"2", 12)
    assert found is not None
    assert found["scope"] == "process"
    cgroup.watch.close()


def test_the_kernel_log_is_of_no_use_in_a_pid_namespace(tmp_path: Path) -> None:
    log = tmp_path / "kmsg"
    log.write_bytes(b"")
    assert not KernelLog(str(log), namespace=FIRST_NAMESPACE + 7).is_complete
    opened = KernelLog(str(log), namespace=FIRST_NAMESPACE)
    assert opened.is_complete
    opened.close()
    assert not opened.is_complete


def test_a_real_process_has_counters_that_can_be_read() -> None:
    """On a machine that shows memory cgroups at all."""
    script = "from runfold.node.memory_cgroup import read_counters_of as r; import os; print(r(os.getpid()))"
    found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    is_shown = "memory" in Path("/proc/self/cgroup").read_text() and os.access(
        "/sys/fs/cgroup/memory", os.R_OK
    )
    if not is_shown:
        pytest.skip("memory cgroups are not shown here")
    assert "memory.oom_control" in found
