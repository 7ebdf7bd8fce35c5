"""A few schedules on each run; `python -m tests.chaos --seeds N`, and that with `--uploads`, play more."""

from __future__ import annotations

from pathlib import Path

import pytest

from chaos.disks import can_mount
from chaos.play import play
from chaos.schedule import DISK_FAULTS, PROCESS_FAULTS, UPLOAD_FAULTS, draw

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(180)]
#: Each group is one schedule, so that every kind of fault is met on each run.
GROUPS = [
    ("kill_trainer", "kill_agent"),
    ("kill_coordinator", "failpoint_coordinator"),
    ("kill_redis", "flushall", "delete_stream"),
    ("kill_coordinator_and_redis", "kill_agent_and_redis"),
    ("redis_full", "failpoint_agent"),
    ("freeze_trainer", "freeze_agent", "freeze_coordinator", "freeze_redis"),
    ("cut_agent", "cut_agent_replies", "refuse_agent"),
    ("cut_coordinator", "refuse_coordinator"),
    DISK_FAULTS,
]
#: The same while trainers upload.
UPLOAD_GROUPS = [
    ("kill_trainer", "kill_agent", "kill_coordinator", "failpoint_uploads"),
    ("lock_database", "fill_database_disk"),
]


@pytest.mark.parametrize("kinds", GROUPS, ids="+".join)
def test_no_row_is_lost_doubled_or_reordered(kinds: tuple[str, ...], tmp_path: Path) -> None:
    disks = can_mount()
    if set(kinds) & set(DISK_FAULTS) and not disks:
        pytest.skip("filling a disk needs root, to mount a small one")
    schedule = draw(GROUPS.index(kinds) + 1, disks=disks, seconds=3.0, only=kinds)
    print(schedule)
    print(play(schedule, tmp_path))


@pytest.mark.parametrize("kinds", UPLOAD_GROUPS, ids="+".join)
def test_each_upload_arrives_once_and_whole_or_its_failure_is_seen(
    kinds: tuple[str, ...], tmp_path: Path
) -> None:
    disks = can_mount()
    chosen = kinds if disks else tuple(kind for kind in kinds if kind not in DISK_FAULTS)
    schedule = draw(UPLOAD_GROUPS.index(kinds) + 1, disks=disks, seconds=2.0, only=chosen, uploads=True)
    print(schedule)
    print(play(schedule, tmp_path))


def test_a_seed_gives_the_same_schedule_again() -> None:
    assert draw(7, disks=True) == draw(7, disks=True)
    assert {kind for group in GROUPS for kind in group} == set(PROCESS_FAULTS) | set(DISK_FAULTS)
    assert {kind for group in UPLOAD_GROUPS for kind in group} >= set(UPLOAD_FAULTS)
