"""CUDA_VISIBLE_DEVICES as CUDA reads it."""

from __future__ import annotations

import pytest

from runfold.node.sampling.visible_devices import Device, visible_uuids

A, B, C = "GPU-aaaa1111", "GPU-aabb2222", "GPU-cccc3333"
X, Y = "MIG-0101", "MIG-0202"
DEVICES = [
    Device(2, C),
    Device(0, A),
    Device(1, B),
    Device(1, X, parent=B, mig=0, gpu_instance=3, compute_instance=0),
    Device(1, Y, parent=B, mig=1, gpu_instance=4, compute_instance=1),
]


@pytest.mark.parametrize(
    ("said", "found"),
    [
        (None, [A, B, C]),
        ("", []),
        ("-1", []),
        ("0", [A]),
        ("2,0", [C, A]),
        (" 2 , 0 ", [C, A]),
        ("0,-1,1", [A]),
        ("0,9,1", [A]),
        ("1,1", [B]),
        (A, [A]),
        ("GPU-c", [C]),
        ("gpu-C", [C]),
        ("GPU-aa", []),  # of two devices
        ("GPU-", []),
        ("GPU-zz,0", []),
        (X, [X]),
        (f"{Y},2", [Y, C]),
        ("MIG-GPU-aabb2222/4/1", [Y]),
        ("MIG-GPU-aabb2222/9/9,0", []),
        ("NoDevFiles", []),
        ("void", []),
        ("0x1", []),
        ("١", []),  # a digit, but not one of CUDA's
        ("," * 5000, []),
    ],
)
def test_entries_name_devices_until_the_first_that_names_none(said: str | None, found: list[str]):
    assert visible_uuids(said, DEVICES) == found


def test_without_devices_there_are_none():
    assert visible_uuids(None, []) == visible_uuids("0", []) == []
