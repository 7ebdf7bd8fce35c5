"""Which file systems keep what they allocate."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from runfold.spool.filesystem import can_append_by_mmap, free_bytes

MOUNTS = """\
22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw
23 22 0:21 / /dev/shm rw,nosuid shared:2 - tmpfs tmpfs rw
30 22 0:30 / /home rw - nfs4 server:/home rw
31 30 0:31 / /home/fast rw - xfs /dev/sdb rw
32 22 0:32 / /with\\040space rw - btrfs /dev/sdc rw
33 22 0:33 / /var rw - overlay overlay rw,upperdir=/x
34 22 0:34 / /twice rw - ext4 /dev/sdd rw
35 34 0:35 / /twice rw - zfs tank rw
broken line
36 22
"""


@pytest.mark.parametrize(
    ("place", "can"),
    [
        ("/root/.runfold", True),
        ("/dev/shm/x", True),
        ("/home/me", False),
        ("/home/fast/me", True),
        ("/homestead", True),
        ("/with space/a", False),
        ("/var/lib", False),
        ("/twice", False),
    ],
)
def test_the_mount_at_or_above_a_place_decides(place: str, can: bool) -> None:
    assert can_append_by_mmap(Path(place), MOUNTS) is can


def test_in_doubt_the_answer_is_no(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not can_append_by_mmap(Path("/x"), "")
    monkeypatch.delattr(os, "posix_fallocate")
    assert not can_append_by_mmap(Path("/root"), MOUNTS)


def test_free_space_is_what_a_user_may_take(tmp_path: Path) -> None:
    assert 0 < free_bytes(tmp_path) < 2**60
