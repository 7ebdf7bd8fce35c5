"""From a seed, everything that one chaos run does. Pure: same seed, same schedule."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

#: Faults that any user can inject.
PROCESS_FAULTS = (
    "kill_trainer",
    "kill_agent",
    "kill_coordinator",
    "kill_redis",
    "kill_coordinator_and_redis",
    "kill_agent_and_redis",
    "flushall",
    "delete_stream",
    "redis_full",
    "freeze_trainer",
    "freeze_agent",
    "freeze_coordinator",
    "freeze_redis",
    "cut_agent",
    "cut_agent_replies",
    "refuse_agent",
    "cut_coordinator",
    "refuse_coordinator",
    "failpoint_coordinator",
    "failpoint_agent",
)
#: Faults for schedules that upload.
UPLOAD_FAULTS = ("lock_database", "failpoint_uploads")
#: Faults that need a small file system of their own, so root.
DISK_FAULTS = ("fill_spool_disk", "fill_database_disk")


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault: what, when, for how long."""

    kind: str
    at_s: float
    lasts_s: float
    pick: int  #: which of several (trainers, failpoints)


@dataclass(frozen=True, slots=True)
class Schedule:
    """What is logged and what goes wrong meanwhile."""

    seed: int
    shared: bool
    trainers: int
    width: int
    ragged: bool
    pause_s: float
    exit_codes: tuple[int, ...]
    seconds: float
    redis_persistent: bool
    faults: tuple[Fault, ...] = field(default_factory=tuple)
    uploads: bool = False

    @property
    def needs_disks(self) -> bool:
        """Whether some fault fills a disk."""
        return any(fault.kind in DISK_FAULTS for fault in self.faults)


def draw(
    seed: int, *, disks: bool, seconds: float = 4.0, only: tuple[str, ...] = (), uploads: bool = False
) -> Schedule:
    """Draw a schedule.

    Args:
        disks: Whether disks can be filled here.
        seconds: How long trainers log.
        only: Take faults of these kinds; empty: each seed draws its own subset, so that faults meet in
            combinations that a full mix never has (swarm testing).
        uploads: Trainers save files and log artifacts too.
    """
    rng = random.Random(seed)
    kinds = list(only) or list(
        PROCESS_FAULTS + (DISK_FAULTS if disks else ()) + (UPLOAD_FAULTS if uploads else ())
    )
    if not only:
        kinds = rng.sample(kinds, rng.randint(2, 6))
    count = rng.randint(3, 7)
    faults = sorted(
        (
            Fault(
                rng.choice(kinds),
                rng.uniform(0.1, seconds * 0.9),
                rng.choice((0.0, 0.2, 0.5, 1.0)),
                rng.randrange(1000),
            )
            for _ in range(count)
        ),
        key=lambda fault: fault.at_s,
    )
    trainers = rng.randint(2, 4)
    return Schedule(
        seed=seed,
        shared=rng.random() < 0.6,
        trainers=trainers,
        width=rng.choice((0, 2, 8, 40)),
        ragged=rng.random() < 0.4,
        pause_s=rng.choice((0.0005, 0.002, 0.01)),
        exit_codes=tuple(rng.choice((0, 0, 0, 3)) for _ in range(trainers)),
        seconds=seconds,
        redis_persistent=rng.random() < 0.3,
        faults=tuple(faults),
        uploads=uploads,
    )
