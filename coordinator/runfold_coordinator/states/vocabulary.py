"""What a verdict says, and what it is made from beside the evidence. Values only.

`Life` is what the coordinator knows by its own clock; `Verdict` is a state with its reason; `Ending` is how a
process came to its end, as far as its run needs it to tell whose failure came first.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any

RUNNING = "running"
FINISHED = "finished"
FAILED = "failed"
KILLED = "killed"
CRASHED = "crashed"
PREEMPTING = "preempting"
PREEMPTED = "preempted"
TERMINAL = frozenset({FINISHED, FAILED, KILLED, CRASHED, PREEMPTED})

#: How sure a state is. The kernel or the parent has seen the end.
CERTAIN = "certain"
#: The process, its launcher or its scheduler said so.
SAID = "said"
#: From silence or absence only.
INFERRED = "inferred"
#: Weakest first; "": it goes on.
CONFIDENCES = ("", INFERRED, SAID, CERTAIN)


class Blame(IntEnum):
    """Whether somebody else's failure may be behind a death; of several failures the lowest is blamed."""

    #: Its own doing, or a cause of its own: an exception, memory, a stop request, the scheduler.
    OWN = 0
    #: By SIGKILL, or gone, without the SIGTERM that launchers send first; only an observer knows when.
    SUDDEN = 1
    #: By a signal that may be a launcher's answer to another rank's failure.
    PERHAPS_INDUCED = 2
    #: By what only a lost peer or the launcher brings about.
    INDUCED = 3


@dataclass(frozen=True, slots=True)
class Limits:
    """When silence means something. All in seconds, by the coordinator's monotonic clock."""

    unreachable_s: float = 15.0
    lost_s: float = 300.0
    #: How long records of a dead process may still be on the way before its state is told without them.
    late_records_s: float = 60.0
    #: The same where the kernel's word is there: the records can only tell the reason more exactly.
    certain_late_records_s: float = 2.0
    #: How long a process may be known to be gone before it is told that nobody knows how it ended.
    status_wait_s: float = 0.5


@dataclass(frozen=True, slots=True)
class Life:
    """What is known of one writer beside the evidence."""

    #: The agent's word: True alive, False gone, None unknown.
    alive: bool | None = None
    #: Seconds since anything was heard of the writer, while it could have been heard.
    silent_s: float = 0.0
    #: Seconds since the last of its records was stored; matters only while some are on the way.
    stalled_s: float = 0.0
    #: Seconds since it was first heard that the process is gone; matters only when it is.
    gone_s: float = 1e9
    #: Whether every record that the agent has seen is stored.
    is_caught_up: bool = True
    last_seen_unix_ns: int = 0
    #: Newest time in its records, by its own clock.
    last_record_unix_ns: int = 0
    #: By its identity: who would send it signals when another rank fails.
    launcher_pid: int | None = None


@dataclass(frozen=True, slots=True)
class Ending:
    """How a process ended."""

    signum: int | None = None
    exit_code: int | None = None
    blame: Blame = Blame.OWN
    #: When the signal came that led to its end, by its node's clock; 0: not known, or none did.
    signal_unix_ns: int = 0
    #: A collective gave up on a peer: that may take as long as its own timeout after the peer was lost.
    is_peer_loss: bool = False
    #: "stopped by ann", where somebody asked it to stop; "" where nobody did.
    stop: str = ""
    #: The whole run was asked to.
    is_whole_stop: bool = False

    def to_map(self) -> dict[str, Any]:
        """Return what is stored beside the verdict."""
        return {
            "signum": self.signum,
            "exit_code": self.exit_code,
            "blame": int(self.blame),
            "signal_unix_ns": self.signal_unix_ns,
            "is_peer_loss": self.is_peer_loss,
            "stop": self.stop,
            "is_whole_stop": self.is_whole_stop,
        }

    @classmethod
    def from_map(cls, found: Mapping[str, Any]) -> Ending:
        """Return the ending of a stored map; {} is that of a writer that was judged by an older version."""
        return cls(
            signum=found.get("signum"),
            exit_code=found.get("exit_code"),
            blame=Blame(found.get("blame", 0)),
            signal_unix_ns=found.get("signal_unix_ns", 0),
            is_peer_loss=found.get("is_peer_loss", False),
            stop=found.get("stop", ""),
            is_whole_stop=found.get("is_whole_stop", False),
        )


@dataclass(frozen=True, slots=True)
class Verdict:
    """A state; `reason` is never empty on a terminal one, `confidence` is "" on any other."""

    state: str
    reason: str = ""
    unreachable: bool = False
    #: By the clock of the writer's node.
    ended_unix_ns: int | None = None
    confidence: str = ""
    ending: Ending = field(default=Ending())

    @property
    def is_terminal(self) -> bool:
        return self.state in TERMINAL

    @property
    def is_failure(self) -> bool:
        """It ended otherwise than finished."""
        return self.state in TERMINAL and self.state != FINISHED
