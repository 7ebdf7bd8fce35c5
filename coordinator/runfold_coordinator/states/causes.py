"""What others' words mean: schedulers' states, exceptions that only a lost peer brings about. Two tables."""

from __future__ import annotations

import re
from enum import IntEnum


class SchedulerCause(IntEnum):
    """Why a scheduler ended a process. Of several the lowest stands."""

    OUT_OF_MEMORY = 0
    PREEMPTED = 1
    TIME_LIMIT = 2
    NODE_FAIL = 3
    CANCELLED = 4


#: A scheduler's own word, in letters only and lower case -> what it means. Slurm's job states (squeue(1)),
#: Kubernetes' reasons of pods and containers (DisruptionTarget, status.reason), LSF's and PBS's words.
_SCHEDULER_WORDS = {
    "outofmemory": SchedulerCause.OUT_OF_MEMORY,
    "oomkilled": SchedulerCause.OUT_OF_MEMORY,
    "termmemlimit": SchedulerCause.OUT_OF_MEMORY,
    "preempted": SchedulerCause.PREEMPTED,
    "preempting": SchedulerCause.PREEMPTED,
    "preemptionbyscheduler": SchedulerCause.PREEMPTED,
    "evicted": SchedulerCause.PREEMPTED,
    "evictionbyevictionapi": SchedulerCause.PREEMPTED,
    "deletionbytaintmanager": SchedulerCause.PREEMPTED,
    "terminationbykubelet": SchedulerCause.PREEMPTED,
    "disruptiontarget": SchedulerCause.PREEMPTED,
    "requeued": SchedulerCause.PREEMPTED,
    "requeuehold": SchedulerCause.PREEMPTED,
    "termpreempt": SchedulerCause.PREEMPTED,
    "timeout": SchedulerCause.TIME_LIMIT,
    "deadline": SchedulerCause.TIME_LIMIT,
    "deadlineexceeded": SchedulerCause.TIME_LIMIT,
    "termrunlimit": SchedulerCause.TIME_LIMIT,
    "nodefail": SchedulerCause.NODE_FAIL,
    "bootfail": SchedulerCause.NODE_FAIL,
    "nodelost": SchedulerCause.NODE_FAIL,
    "nodeshutdown": SchedulerCause.NODE_FAIL,
    "shutdown": SchedulerCause.NODE_FAIL,
    "deletionbypodgc": SchedulerCause.NODE_FAIL,
    "cancelled": SchedulerCause.CANCELLED,
    "revoked": SchedulerCause.CANCELLED,
    "termowner": SchedulerCause.CANCELLED,
    "termadmin": SchedulerCause.CANCELLED,
}


def scheduler_cause(state: str) -> SchedulerCause | None:
    """Return what a scheduler's word means; None for one that names no cause (COMPLETED, FAILED, RUNNING).

    Slurm writes who cancelled behind the word: "CANCELLED by 1000".
    """
    first = state.strip().partition(" ")[0]
    return _SCHEDULER_WORDS.get(re.sub(r"[^a-z]", "", first.lower()))


#: What an exception says when another process of the job is gone, and only then. Of torch.distributed (NCCL,
#: Gloo, its store), Ray, Horovod, MPI and plain sockets. Searched in the exception's name and text.
_PEER_LOSS = re.compile(
    "|".join(
        (
            r"DistBackendError",
            r"DistNetworkError",
            r"ncclRemoteError",
            r"ncclInternalError.*(closed|remote)",
            r"NCCL.*(remote process exit|communicator was aborted|Watchdog caught collective)",
            r"remote process exiting prematurely",
            r"Watchdog caught collective operation timeout",
            r"gloo/transport.*(closed|reset|refused|timed? ?out|Broken pipe)",
            r"Application timeout caused pair closure",
            r"Connection closed by (remote )?peer",
            r"Connection reset by (remote )?peer",
            r"ConnectionResetError",
            r"BrokenPipeError",
            r"Broken pipe",
            r"[Ss]ocket [Cc]losed",
            r"RayActorError|ActorDiedError|ActorUnavailableError|WorkerCrashedError|OwnerDiedError|NodeDiedError",
            r"HorovodInternalError|HostsUpdatedInterrupt",
            r"MPI_ERR_PROC_FAILED|MPI_ERR_REVOKED",
            r"RendezvousConnectionError|RendezvousClosedError",
        )
    ),
    re.DOTALL,
)
#: Characters of a text that are searched, at its end: there Python writes the exception.
_SEARCHED_CHARS = 8192


def is_peer_loss(exception: str | None, text: str | None) -> bool:
    """Return whether this exception is the consequence of another process's end.

    Args:
        exception: Its class.
        text: Its message, or the whole traceback.
    """
    return any(part and _PEER_LOSS.search(part[-_SEARCHED_CHARS:]) for part in (exception, text))
