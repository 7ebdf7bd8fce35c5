"""The duty: whom it samples, when, and that nothing that fails stops it."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

import pytest

from runfold.node.node_spool import NodeSpool
from runfold.node.sampling import sampler
from runfold.node.sampling.gpu_thread import GpuProbe
from runfold.node.sampling.nvml import GpuSample
from runfold.node.sampling.sampler import Sampler
from runfold.node.sampling.visible_devices import Device
from runfold.node.tail import WriterTail
from runfold.node.witness import Witness
from runfold.protocol.evidence import DEVICES
from runfold.protocol.identity import Identity
from runfold.protocol.records import NodeRecord
from support.processes import until

ME = Identity(entity="e", project="p", run_id="r", pid=os.getpid())


@dataclass
class Tail:
    """What the sampler sees of a writer."""

    writer: bytes
    identity: Identity = ME
    is_alive: bool | None = True
    ended: bool = False

    def has_ended(self) -> bool:
        return self.ended


@dataclass
class Spool:
    """Keeps what it is given."""

    samples: list[dict[str, float]] = field(default_factory=list)
    nodes: list[NodeRecord] = field(default_factory=list)

    def describe(self, node: NodeRecord) -> None:
        self.nodes.append(node)

    def add_sample(self, values: dict[str, float]) -> None:
        self.samples.append(values)


@dataclass
class Said:
    """A witness that keeps what is said."""

    spool: Spool = field(default_factory=Spool)
    evidence: list[tuple[bytes, str, dict[str, Any]]] = field(default_factory=list)

    def testify(self, writer: bytes, source: str, facts: dict[str, Any]) -> None:
        self.evidence.append((writer, source, facts))


class Gpus:
    """A probe whose answers are given."""

    def __init__(self) -> None:
        self.sample_now: GpuSample | None = GpuSample(
            {"g/A/temp": 50.0}, {"A": {}, "B": {}}, (Device(0, "A", "Stub", 100), Device(1, "B", "Stub", 100))
        )
        self.closed = threading.Event()

    def sample(self, now_s: float) -> GpuSample | None:
        if self.sample_now is None:
            raise RuntimeError("a fault of ours")
        return self.sample_now

    def close(self) -> None:
        self.closed.set()


@dataclass
class Stage:
    said: Said
    gpus: Gpus
    sampler: Sampler

    def found(self, *tails: Tail) -> None:
        for tail in tails:
            self.sampler.writer_found(cast("WriterTail", tail))
        self.step()

    def step(self) -> None:
        self.sampler.step(time.monotonic())

    def samples(self, count: int = 1) -> list[dict[str, float]]:
        return (
            until(lambda: samples if len(samples := self.said.spool.samples) >= count else None, 45, 0.01)
            or []
        )


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    said, gpus = Said(), Gpus()
    sampler = Sampler(
        cast("Witness", said),
        interval_s=0.1,
        target_dir=tmp_path,
        make_gpu_probe=lambda: cast("GpuProbe", gpus),
    )
    yield Stage(said, gpus, sampler)
    sampler.close()


def test_the_first_sample_comes_at_once_with_all_there_is(stage: Stage):
    stage.step()
    assert stage.said.spool.samples == []  # nobody is there
    stage.found(Tail(b"\1" * 16))
    first = stage.samples()[0]
    assert {"memory_percent", "g/A/temp", "nvml.hung", "agent.sample_cpu_ms"} <= first.keys()
    assert first[f"w/{'01' * 16}/proc.memory.rssMB"] > 1
    node = stage.said.spool.nodes[0]
    assert node.host and node.boot_id and node.facts["memory_bytes"] > 1 << 20
    assert [gpu["uuid"] for gpu in node.gpus] == ["A", "B"] and node.gpus[0]["memory_bytes"] == 100


def test_it_goes_on_until_nobody_is_left_and_begins_again(stage: Stage):
    tail = Tail(b"\1" * 16)
    stage.found(tail)
    stage.samples(3)
    tail.ended = True
    stage.step()
    until(stage.gpus.closed.is_set, 45, 0.01)
    count = len(stage.said.spool.samples)
    stage.step()
    until(lambda: stage.sampler._thread is None)
    assert len(stage.said.spool.samples) == count
    stage.found(Tail(b"\2" * 16))
    assert f"w/{'02' * 16}/proc.memory.rssMB" in stage.samples(count + 1)[-1]


@pytest.mark.parametrize(
    "tail",
    [
        Tail(b"\1" * 16, is_alive=False),
        Tail(b"\1" * 16, is_alive=None),  # of another place
        Tail(b"\1" * 16, replace(ME, role="node")),
        Tail(b"\1" * 16, replace(ME, role="console")),
        Tail(b"\1" * 16, replace(ME, stats_interval_s=0.0)),
        Tail(b"\1" * 16, ended=True),
    ],
)
def test_who_is_gone_or_does_not_want_it_is_not_sampled(stage: Stage, tail: Tail):
    stage.found(tail)
    assert stage.sampler._thread is None
    assert stage.said.spool.samples == []


def test_of_two_runs_the_one_that_wants_it_is_sampled_and_the_shortest_interval_counts(stage: Stage):
    no, slow = replace(ME, stats_interval_s=0.0), replace(ME, stats_interval_s=3600.0)
    stage.found(Tail(b"\1" * 16, no), Tail(b"\2" * 16, slow))
    first = stage.samples()[0]
    assert f"w/{'02' * 16}/proc.memory.rssMB" in first
    assert not [name for name in first if name.startswith(f"w/{'01' * 16}/")]
    time.sleep(0.3)
    assert len(stage.said.spool.samples) == 1
    stage.found(Tail(b"\3" * 16))  # a new one is sampled soon, whatever the interval was
    assert f"w/{'03' * 16}/proc.memory.rssMB" in stage.samples(3)[-1]


def test_each_writer_is_told_its_devices_once_and_again_when_it_uses_them(stage: Stage):
    one, two = Tail(b"\1" * 16, replace(ME, visible_devices="1")), Tail(b"\2" * 16)
    stage.found(one, two)
    stage.samples(3)
    assert sorted(stage.said.evidence) == [
        (b"\1" * 16, DEVICES, {"gpus": ["B"], "by": "environment"}),
        (b"\2" * 16, DEVICES, {"gpus": ["A", "B"], "by": "default"}),
    ]
    assert stage.gpus.sample_now is not None
    stage.gpus.sample_now = replace(stage.gpus.sample_now, processes={"A": {os.getpid(): 5}, "B": {}})
    until(lambda: len(stage.said.evidence) == 4, 45, 0.01)
    stage.samples(len(stage.said.spool.samples) + 2)
    assert {facts["by"] for _, _, facts in stage.said.evidence[2:]} == {"process"}
    assert len(stage.said.evidence) == 4


def test_of_very_many_writers_some_are_sampled_and_the_others_counted(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(sampler, "MAX_SUBJECTS", 3)
    stage.found(*(Tail(bytes([number]) * 16) for number in range(5)))
    first = stage.samples()[0]
    assert len([name for name in first if name.endswith("/proc.memory.rssMB")]) == 3
    assert first["agent.unsampled_writers"] == 2


def test_a_fault_of_a_probe_costs_its_metrics_only(stage: Stage, caplog: pytest.LogCaptureFixture):
    stage.gpus.sample_now = None
    stage.found(Tail(b"\1" * 16))
    found = stage.samples(2)
    assert all("memory_percent" in values for values in found)
    assert not [name for values in found for name in values if name.startswith("g/")]
    assert "a fault while sampling GPUs" in caplog.text


def test_after_the_end_nothing_is_kept(stage: Stage, tmp_path: Path):
    stage.found(Tail(b"\1" * 16))
    stage.samples()
    stage.sampler.close()
    count = len(stage.said.spool.samples)
    until(lambda: stage.sampler._thread is None)
    assert len(stage.said.spool.samples) == count


def test_a_sample_is_a_row_of_the_nodes_spool(stage: Stage, tmp_path: Path):
    spool = NodeSpool(tmp_path / "spool" / "t", host="h")
    stage.said.spool = cast("Spool", spool)
    stage.found(Tail(b"\1" * 16))
    until(lambda: spool.writer_id, 45, 0.01)
    stage.sampler.close()
    spool.close()
    assert spool.lost_count == 0
