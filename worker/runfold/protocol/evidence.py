"""Evidence about processes: who saw what. The vocabulary that agent and coordinator share. Pure.

A writer's state is a function of the set of its evidence, whatever its order. The same thing may be said
twice, over two ways: (writer, source, ident) tells that it is the same.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from runfold.protocol.errors import DecodeError, VersionError
from runfold.protocol.limits import WRITER_ID_BYTES
from runfold.protocol.records import EvidenceRecord
from runfold.protocol.values import pack_value, unpack_value

#: Largest evidence message; texts in facts are cut well below it by whoever makes them.
MAX_EVIDENCE_BYTES = 256 * 1024

# Said by the process itself, in records of its own spool.
#: ExitRecord: code, how, exception, traceback.
EXIT = "exit"
#: SignalRecord: signum, name, sender_pid, sender_uid.
SIGNAL = "signal"
#: PreemptingRecord: source, grace_s, message.
PREEMPTING = "preempting"

# Seen by the kernel or the parent.
#: {"status": wait status word, "by": "pidfd" (PIDFD_INFO_EXIT), "proc" (read off the zombie) or "parent"
#: (`runfold run`)}.
WAIT = "wait"
#: {} The agent saw that the process is gone, and nobody could tell how it ended.
GONE = "gone"
#: {"boot_id": the writer's, "now": the machine's}: the node was booted anew since.
REBOOT = "reboot"
#: {"kills": how many more than when it started, "cgroup": its path, "version": 1 or 2, "scope": "process"
#: (the kernel named this pid) or "cgroup" (somebody in its memory cgroup was killed)}.
OOM = "oom"

# Said by launchers and schedulers: the cause, not the end itself.
#: torchelastic's error file: {"message", "exception", "traceback", "unix_s"}.
ELASTIC = "elastic_error"
#: {"system": "slurm", "kubernetes", ..., "state": the system's own word, e.g. PREEMPTED, TIMEOUT, CANCELLED,
#: NODE_FAIL, OUT_OF_MEMORY, "text"}.
SCHEDULER = "scheduler"
#: A notice that the node will be taken away: {"system": "aws", "gcp", "azure", "slurm", "kubernetes",
#: "grace_s", "text"}.
NOTICE = "notice"
#: What the launcher (torchrun, `runfold run`) got or did: {"pid", "signum", "sender_pid", "sender_uid"} a
#: signal came to it and was passed on; {"pid", "status"} it ended itself.
LAUNCHER = "launcher"

# Our own doing.
#: {"request": id, "by": who asked, "grace_s", "whole": whether the whole run is to end}.
STOP = "stop"
#: The agent carried a stop request out: {"request", "signum", "pid", "to": "process" or "launcher"}.
STOP_SIGNAL = "stop_signal"
#: The agent did not carry it out: {"request", "why"}. The process was not touched.
STOP_REFUSED = "stop_refused"

# Attached, decides nothing.
#: {"tool": "faulthandler" or "py-spy", "text": stacks of all threads, "why"}.
STACK = "stack"
#: {"gpus": [uuid, ...]}: the devices that the process may use.
DEVICES = "devices"

SOURCES = frozenset(
    {
        EXIT, SIGNAL, PREEMPTING, WAIT, GONE, REBOOT, OOM, ELASTIC, SCHEDULER, NOTICE, LAUNCHER, STOP,
        STOP_SIGNAL, STOP_REFUSED, STACK, DEVICES,
    }
)  # fmt: skip

#: What no agent may say of a process: its own words come in its own records, and requests to stop through the
#: gate of the HTTP API, where it is asked who makes them.
NOT_WITNESSED = frozenset({EXIT, SIGNAL, PREEMPTING, STOP})


@dataclass(frozen=True, slots=True)
class Evidence:
    """One thing seen of one writer's process. `t_ns`: wall clock (unix) of the machine that saw it."""

    writer: bytes
    source: str
    t_ns: int
    facts: Mapping[str, Any] = field(default_factory=dict)
    #: Tells two of one source apart; "" means: the facts do.
    ident: str = ""

    @property
    def key(self) -> tuple[bytes, str, str]:
        """Equal for what is the same evidence, however often and over whatever way it comes."""
        return self.writer, self.source, self.ident or facts_digest(self.facts)

    def to_record(self) -> EvidenceRecord:
        """Return the record for the spool of the node's agent."""
        return EvidenceRecord(writer=self.writer.hex(), source=self.source, facts=dict(self.facts))

    @classmethod
    def from_record(cls, record: EvidenceRecord, t_ns: int) -> Evidence:
        """Return what a record of that time says; DecodeError if its writer is no id."""
        return cls(_writer_id(record.writer), record.source, t_ns, record.facts)

    def pack(self) -> bytes:
        """Return the message for the control stream, which arrives before all data."""
        return pack_value(
            {
                "v": 1,
                "kind": "evidence",
                "writer": self.writer.hex(),
                "source": self.source,
                "t_ns": self.t_ns,
                "facts": dict(self.facts),
            },
            max_bytes=MAX_EVIDENCE_BYTES,
        )

    @classmethod
    def from_message(cls, message: Mapping[str, Any]) -> Evidence:
        """Return the evidence in a decoded control message; ProtocolError if there is none."""
        if message.get("kind") != "evidence":
            raise DecodeError("not evidence", field="kind")
        if message.get("v") != 1:
            raise VersionError(f"evidence version {message.get('v')!r}", field="v")
        record = EvidenceRecord.from_map(dict(message))
        t_ns = message.get("t_ns")
        if not isinstance(t_ns, int) or isinstance(t_ns, bool) or not 0 <= t_ns < 2**63:
            raise DecodeError("evidence without a time", field="t_ns")
        return cls.from_record(record, t_ns)


def control_kind(data: bytes) -> tuple[str, dict[str, Any]]:
    """Return the kind of a control message, "heartbeat" or "evidence" so far, and its map.

    Raises:
        ProtocolError: It is no map with a kind.
    """
    message = unpack_value(data, max_bytes=1024 * 1024)
    if not isinstance(message, dict) or not isinstance(message.get("kind"), str):
        raise DecodeError("a control message is a map with a kind", field="kind")
    return message["kind"], message


def facts_digest(facts: Mapping[str, Any]) -> str:
    """Return 32 hex digits that are equal for equal facts."""
    packed = pack_value(dict(sorted(facts.items())))
    return hashlib.sha256(packed).hexdigest()[:32]


def _writer_id(text: str) -> bytes:
    try:
        writer = bytes.fromhex(text)
    except ValueError:
        writer = b""
    if len(writer) != WRITER_ID_BYTES:
        raise DecodeError(f"a writer id has {WRITER_ID_BYTES} bytes", field="writer")
    return writer
