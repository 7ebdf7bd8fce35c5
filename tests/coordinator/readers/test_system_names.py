"""Names of system metrics: whose they are, and where several are, which."""

from __future__ import annotations

import pytest

from runfold_coordinator.readers.system_names import (
    Key,
    Naming,
    device_places,
    is_counter,
    node_suffixes,
    with_relatives,
    writer_suffixes,
)

ME, OTHER = "01" * 16, "02" * 16
GPUS = [
    {"uuid": "A", "index": 0},
    {"uuid": "B", "index": 1},
    {"uuid": "MIG-GPU-b/1/0", "index": 1, "parent": "B", "mig": 0},
    {"uuid": "M2", "index": 1, "parent": "B", "mig": 1},
    {"name": "without an id"},
]


def naming(**more: object) -> Naming:
    values: dict[str, object] = {"writers": {ME: "/l:rank0"}, "node": "/l:n", "places": device_places(GPUS)}
    return Naming(**(values | more))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("key", "name"),
    [
        ("memory_percent", "system.memory_percent/l:n"),
        ("disk./.usageGB", "system.disk./.usageGB/l:n"),
        ("g/A/temp", "system.gpu.0.temp/l:n"),
        ("g/A/throttle.swPowerCap", "system.gpu.0.throttle.swPowerCap/l:n"),
        ("g/MIG-GPU-b/1/0/memoryAllocated", "system.gpu.1.mig.0.memoryAllocated/l:n"),
        ("g/unknown/temp", "system.gpu.unknown.temp/l:n"),
        (f"w/{ME}/cpu", "system.cpu/l:rank0"),
        (f"w/{ME}/g/B/usedMemoryBytes", "system.gpu.process.1.usedMemoryBytes/l:rank0"),
        (f"w/{OTHER}/cpu", None),
        ("w/short/cpu", "system.w/short/cpu/l:n"),
    ],
)
def test_a_key_is_named_by_whose_it_is(key: str, name: str | None):
    assert naming().name(Key.parse(key)) == name


def test_only_devices_of_the_run_have_names():
    found = naming(devices={"A"})
    assert found.name(Key.parse("g/A/temp")) is not None
    assert found.name(Key.parse("g/B/temp")) is None
    assert found.name(Key.parse(f"w/{ME}/g/B/inUse")) is None
    assert found.process_name(Key.parse("g/A/temp")) == "system.gpu.process.0.temp/l:n"
    assert found.process_name(Key.parse("g/A/fanSpeed")) is None
    assert found.process_name(Key.parse("g/B/temp")) is None
    assert found.process_name(Key.parse("temp")) is None


def test_a_part_brings_its_gpu_and_a_gpu_its_parts():
    assert with_relatives(["M2"], GPUS) == {"M2", "B"}
    assert with_relatives(["B"], GPUS) == {"B", "M2", "MIG-GPU-b/1/0"}
    assert with_relatives([], GPUS) == set()


def test_labels_are_there_where_there_are_several():
    assert writer_suffixes({"a": None, "b": None}) == {"a": "", "b": ""}
    assert writer_suffixes({"a" * 32: "rank0", "b" * 32: None}) == {
        "a" * 32: "/l:rank0",
        "b" * 32: "/l:bbbbbbbb",
    }
    assert node_suffixes([("rank0", "h")]) == [""]
    assert node_suffixes([("rank0", "h"), ("rank8", "h2")]) == ["/l:rank0", "/l:rank8"]
    assert node_suffixes([("x", "h"), ("x", "h2")]) == ["/l:x@h", "/l:x@h2"]


def test_counters_are_those_of_disks_and_networks():
    assert is_counter("network.sent") and is_counter("disk.nvme0n1p2.in") and is_counter("disk.sda.out")
    assert not is_counter("disk./.usageGB") and not is_counter("network.sent.x") and not is_counter("cpu")
