"""Trees of processes: whose child is whose, and what they use, over a fake /proc and over real processes."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest

from runfold.node.sampling.process_tree import ProcessTrees, trees_of

TICKS, PAGE = os.sysconf("SC_CLK_TCK"), os.sysconf("SC_PAGE_SIZE")


class Proc:
    """A fake /proc."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def put(self, pid: int, parent: int, *, cpu_s: float = 0, threads: int = 1, rss_pages: int = 1, start: int = 1,
            state: str = "S", io: tuple[int, int] | None = None, files: int = 0) -> None:  # fmt: skip
        place = self.folder / str(pid)
        (place / "fd").mkdir(parents=True, exist_ok=True)
        fields = ["0"] * 40
        fields[0], fields[1], fields[11], fields[17] = (
            state,
            str(parent),
            str(int(cpu_s * TICKS)),
            str(threads),
        )
        fields[19], fields[21] = str(start), str(rss_pages)
        (place / "stat").write_text(f"{pid} (a (strange) name) {' '.join(fields)}\n")
        for number in range(files):
            (place / "fd" / str(number)).touch()
        if io is not None:
            (place / "io").write_text(f"rchar: 1\nread_bytes: {io[0]}\nwrite_bytes: {io[1]}\n")


def test_a_process_belongs_to_the_nearest_writer_above_it():
    parents = {1: 0, 10: 1, 11: 10, 12: 11, 20: 10, 21: 20, 30: 1}
    assert trees_of(parents, [10, 20, 99]) == {10: (10, 11, 12), 20: (20, 21)}
    assert trees_of(parents, []) == {}


def test_trees_are_disjoint_and_end_whatever_the_table_says():
    rng = random.Random(3)
    for _ in range(200):
        parents = {
            pid: rng.randrange(40) for pid in range(40)
        }  # rings too: the table was read while it changed
        roots = rng.sample(range(60), 8)
        trees = trees_of(parents, roots)
        members = [pid for pids in trees.values() for pid in pids]
        assert len(members) == len(set(members))
        assert set(trees) == {root for root in roots if root in parents}


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_numbers_of_a_tree_are_sums_and_differences(tmp_path: Path):
    proc = Proc(tmp_path)
    trees = ProcessTrees(tmp_path)
    proc.put(10, 1, cpu_s=5, threads=3, rss_pages=100, io=(1000, 10), files=4)
    proc.put(11, 10, cpu_s=1, threads=2, rss_pages=50, io=(500, 0), files=2)
    proc.put(12, 10, state="Z", rss_pages=999)
    found = trees.sample([10, 77], 100.0)
    assert set(found) == {10}
    first = found[10]
    assert (first.pids, first.rss_bytes, first.threads, first.open_files) == ((10, 11), 150 * PAGE, 5, 6)
    assert (first.cpu_percent, first.read_bytes, first.written_bytes) == (None, 1500, 10)

    proc.put(10, 1, cpu_s=7, threads=3, rss_pages=100, io=(1500, 30))
    for name in ("stat", "io"):
        (tmp_path / "11" / name).unlink()  # a child that ended: what it read stays counted
    proc.put(13, 10, cpu_s=2, io=(7, 7))  # a new one: all its time is of this interval
    second = trees.sample([10], 110.0)[10]
    assert second.cpu_percent == pytest.approx(100 * (2 + 2) / 10)
    assert (second.read_bytes, second.written_bytes) == (2007, 37)

    proc.put(10, 1, cpu_s=1, start=2)  # another process with the pid
    assert trees.sample([10], 120.0)[10].cpu_percent is None


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_real_processes_are_seen_with_their_children():
    script = "import os, time\nif os.fork() == 0:\n    while True: pass\ntime.sleep(60)"
    root = subprocess.Popen([sys.executable, "-c", script], start_new_session=True)
    try:
        trees = ProcessTrees()
        deadline = time.monotonic() + 20
        while True:
            found = trees.sample([root.pid], time.monotonic())
            if (
                root.pid in found
                and len(found[root.pid].pids) == 2
                and (found[root.pid].cpu_percent or 0) > 5
            ):
                break
            assert time.monotonic() < deadline, found
            time.sleep(0.2)
        reading = found[root.pid]
        assert reading.rss_bytes > 2_000_000 and reading.threads == 2 and (reading.open_files or 0) >= 6
    finally:
        os.killpg(root.pid, 9)
        root.wait()
