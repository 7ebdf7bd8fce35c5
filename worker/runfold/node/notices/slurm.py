"""What Slurm says of a job one of whose processes was killed: preempted, out of time, cancelled, node failed.

In: deaths of processes of a Slurm job. Out: SCHEDULER evidence for those that did not end by themselves, and
NOTICE evidence for those that still run when the job is preempted. Slurm is asked only after a death, a few
times and less and less often, since every node of a large job asks the same controller.
"""

from __future__ import annotations

import logging
import random
import re
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue
from typing import Final

from runfold.node.tail import WriterTail
from runfold.node.witness import Witness
from runfold.protocol.evidence import NOTICE, SCHEDULER
from runfold.protocol.records import ExitRecord, RecordKind
from runfold.spool import SpoolReader

logger = logging.getLogger(__name__)

#: After a death, until the job's state is told: it is often still RUNNING or COMPLETING, seconds.
ASK_AFTER_S: Final = (0.5, 2.0, 5.0, 15.0, 60.0)
#: Longest time for one answer of a command, seconds.
COMMAND_TIMEOUT_S: Final = 10.0
MAX_OUTPUT_CHARS: Final = 100_000
#: Job ids as Slurm writes them: 17, 17_4 (array), 17+1 (heterogeneous), 17.0 (step).
_JOB_ID: Final = re.compile(r"[0-9]+(?:[_.+][0-9]+)*")
#: States in which the job's end is not known yet.
_GOES_ON: Final = frozenset(
    {"RUNNING", "COMPLETING", "CONFIGURING", "SUSPENDED", "STOPPED", "SIGNALING", "STAGE_OUT"}
)
#: States that tell nothing that the processes do not.
_BY_ITSELF: Final = frozenset({"COMPLETED", "FAILED"})
_WAITS: Final = frozenset({"PENDING", "REQUEUED", "REQUEUE_HOLD", "REQUEUE_FED", "SPECIAL_EXIT"})

Command = Callable[[list[str]], str]


@dataclass(frozen=True, slots=True)
class JobState:
    """What Slurm says: its own word, and the rest for people. `goes_on`: it is not over yet."""

    state: str
    reason: str = ""
    restarts: int = 0
    is_preempted: bool = False

    @property
    def goes_on(self) -> bool:
        """Return True while the job runs, or is being cleaned up."""
        return self.state in _GOES_ON


@dataclass(slots=True)
class _Job:
    """One job of which processes were killed here."""

    restart_hint: int
    ended: set[bytes] = field(default_factory=set)
    #: How often it was asked about since the last death, and when next.
    asked_count: int = 0
    due_s: float = 0.0


class SlurmJobs:
    """Asks Slurm about jobs. All calls are the agent's; the commands run in a thread."""

    def __init__(
        self,
        witness: Witness,
        *,
        run_command: Command | None = None,
        clock: Callable[[], float] = time.monotonic,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._witness = witness
        self._run_command = run_command or _output_of
        self._clock = clock
        self._jitter = jitter
        self._jobs: dict[str, _Job] = {}
        self._job_of: dict[bytes, str] = {}
        self._told: set[tuple[bytes, str]] = set()
        self._asked: SimpleQueue[tuple[str, JobState | None]] = SimpleQueue()
        self._thread: threading.Thread | None = None

    def writer_found(self, tail: WriterTail) -> None:
        """Remember whose process of which job it is."""
        job = tail.identity.launcher.scheduler_job
        if tail.identity.role == "process" and job is not None and _JOB_ID.fullmatch(job):
            self._job_of[tail.writer] = job

    def writer_ended(self, tail: WriterTail) -> None:
        """Ask about its job soon, unless it ended by itself."""
        name = self._job_of.pop(tail.writer, None)
        if name is None or has_ended_well(tail):
            return
        job = self._jobs.setdefault(name, _Job(tail.identity.launcher.restart_hint or 0))
        job.ended.add(tail.writer)
        # All nodes of a job lose their processes in one moment: they do not ask in one moment.
        job.asked_count, job.due_s = 0, self._clock() + ASK_AFTER_S[0] * (1 + 3 * self._jitter())

    def step(self, now_s: float) -> None:
        """Take answers, and ask about the next job that is due."""
        while True:
            try:
                self._take(*self._asked.get_nowait(), now_s)
            except Empty:
                break
        if self._thread is not None and self._thread.is_alive():
            return
        for name, job in self._jobs.items():
            if now_s >= job.due_s:
                self._thread = threading.Thread(
                    target=self._ask, args=(name, job.restart_hint), name="runfold-slurm", daemon=True
                )
                self._thread.start()
                return

    def close(self) -> None:
        """A command that runs is not waited for: it ends by its own limit."""

    def _take(self, name: str, found: JobState | None, now_s: float) -> None:
        job = self._jobs.get(name)
        if job is None:
            return
        job.asked_count += 1
        if found is not None and (found.is_preempted or not found.goes_on):
            self._tell(name, job, found)
        is_over = found is not None and not found.goes_on
        if is_over or job.asked_count >= len(ASK_AFTER_S):
            del self._jobs[name]
        else:
            job.due_s = now_s + ASK_AFTER_S[job.asked_count] * (1 + self._jitter())

    def _tell(self, name: str, job: _Job, found: JobState) -> None:
        text = f"Slurm job {name}: {found.state}" + (f" ({found.reason})" if found.reason else "")
        if not found.goes_on and found.state not in _BY_ITSELF:
            facts = {"system": "slurm", "state": found.state, "text": text}
            for writer in job.ended:
                self._testify(writer, SCHEDULER, facts)
        if found.is_preempted or found.state == "PREEMPTED":
            living = [writer for writer, _, is_alive in self._witness.processes() if is_alive]
            for writer in living:
                if self._job_of.get(writer) == name:
                    notice = {"system": "slurm", "grace_s": None, "text": f"Slurm preempts job {name}"}
                    self._testify(writer, NOTICE, notice)

    def _testify(self, writer: bytes, source: str, facts: Mapping[str, object]) -> None:
        said = (writer, f"{source} {facts['text']}")
        if said not in self._told:
            self._told.add(said)
            self._witness.testify(writer, source, facts)

    # --- in the thread ----------------------------------------------------------------------------------

    def _ask(self, name: str, restart_hint: int) -> None:
        found: JobState | None = None
        try:
            found = self._look(name, restart_hint)
        except (OSError, ValueError, subprocess.SubprocessError) as error:
            logger.info("Slurm says nothing of job %s: %s", name, error, extra={"event": "slurm_away"})
        self._asked.put((name, found))

    def _look(self, name: str, restart_hint: int) -> JobState:
        try:
            found = parse_scontrol(self._run_command(["scontrol", "show", "job", "-o", name]))
        except (OSError, ValueError, subprocess.SubprocessError):
            # Some minutes after its end the controller has forgotten a job; the accounting has not.
            return parse_sacct(self._run_command(_sacct(name)))
        if found.state not in _WAITS and found.restarts <= restart_hint:
            return found
        # It waits for its next start. Why it was taken away is in the accounting, where there is one.
        try:
            before = parse_sacct(self._run_command(_sacct(name)))
        except (OSError, ValueError, subprocess.SubprocessError):
            before = JobState("REQUEUED", found.reason)
        return (
            before
            if before.state not in _WAITS and not before.goes_on
            else JobState("REQUEUED", found.reason)
        )


def parse_scontrol(text: str) -> JobState:
    """Return the state in the output of `scontrol show job -o`, one line of NAME=VALUE.

    Raises:
        ValueError: There is none.
    """
    line = next((line for line in text.splitlines() if "JobState=" in line), "")
    found = dict(re.findall(r"(?:^|\s)(JobState|Reason|Restarts|PreemptTime)=(\S*)", line))
    if not found.get("JobState"):
        raise ValueError("scontrol tells no JobState")
    restarts = found.get("Restarts", "")
    reason = found.get("Reason", "")
    return JobState(
        found["JobState"].split("+")[0],
        "" if reason == "None" else reason[:200],
        int(restarts) if restarts.isdigit() else 0,
        is_preempted=found.get("PreemptTime", "None") not in ("None", "Unknown", "N/A", ""),
    )


def parse_sacct(text: str) -> JobState:
    """Return the last state in the output of `sacct -D -X -n -P -o State`, which has a line a start.

    Raises:
        ValueError: There is none.
    """
    words = [line.strip() for line in text.splitlines() if line.strip()]
    ended = [word for word in words if word.split()[0] not in _WAITS | _GOES_ON]
    word = (ended or words or [""])[-1]
    if not word:
        raise ValueError("sacct knows no such job")
    state, _, rest = word.partition(" ")  # "CANCELLED by 1000"
    return JobState(state, rest)


def has_ended_well(tail: WriterTail) -> bool:
    """Return whether a process said that it ended with status 0."""
    try:
        reader = SpoolReader(tail.directory)
    except (OSError, ValueError):
        return False
    try:
        batch = reader.read(max(1, reader.head_seq()), writer_is_dead=True)
        last = batch.others[-1] if batch is not None and batch.others else None
        return last is not None and last.kind == RecordKind.EXIT and ExitRecord.unpack(last.payload).code == 0
    except (OSError, ValueError):
        return False
    finally:
        reader.close()


def has_slurm() -> bool:
    """Return whether this machine has Slurm's commands."""
    return shutil.which("scontrol") is not None


def _sacct(name: str) -> list[str]:
    return ["sacct", "-D", "-X", "-n", "-P", "-o", "State", "-j", name]


def _output_of(words: list[str]) -> str:
    done = subprocess.run(
        words,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=COMMAND_TIMEOUT_S,
        check=True,
        text=True,
        errors="replace",
    )
    return done.stdout[:MAX_OUTPUT_CHARS]
