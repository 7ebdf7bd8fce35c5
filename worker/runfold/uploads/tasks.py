"""Task: a job while an uploader works on it. Pure but for the open file that a large one keeps."""

from __future__ import annotations

from dataclasses import dataclass, field

from runfold.node.back_off import BackOff
from runfold.uploads.jobs import AnyJob, ArtifactJob, FileJob, FolderJob
from runfold.uploads.source import Mark, Source

#: A file that was changed so shortly before it was read may have changed again within the clock's tick.
RACY_S = 2.0


@dataclass(slots=True, eq=False)
class Task:
    """What is known of a job beside what it says itself.

    Attributes:
        is_final: The writer's process has ended: this is the last time, for a file that was watched.
        size_bytes: How large the file was when it was looked at last.
        not_before_s: Monotonic; when it may be tried again.
        source, digest: Of a large file that is partly hashed or uploaded.
        changes: How often in a row the file changed while it was read.
        is_alone: It is not sent along with others.
        rests: A watched file that the server has as it was: it waits to be found changed.
        began_final: It was the last time already when the work at it began.
        parts: Of a folder: the jobs that were made of it; None: it was not looked into yet.
        sent_mark: State of a watched file that the server has; None: none yet, or it may have changed unseen.
        sent_digest: Its SHA-256.
    """

    job: AnyJob
    is_final: bool = False
    is_running: bool = False
    size_bytes: int = 0
    not_before_s: float = 0.0
    source: Source | None = None
    digest: str | None = None
    changes: int = 0
    is_alone: bool = False
    rests: bool = False
    began_final: bool = False
    waits: BackOff = field(default_factory=lambda: BackOff(0.5, 30.0))
    parts: set[str] | None = None
    sent_mark: Mark | None = None
    sent_digest: str | None = None

    @property
    def name_key(self) -> tuple[str, str] | None:
        """What no two uploads at a time may share: run and name; None: it matters not."""
        return (self.job.run, self.job.name) if isinstance(self.job, FileJob) else None

    @property
    def is_watch(self) -> bool:
        """It stays until the writer's process has ended."""
        return isinstance(self.job, FolderJob) or (isinstance(self.job, FileJob) and self.job.policy != "now")

    @property
    def is_held(self) -> bool:
        """It has nothing to do before something happens: a change, or the end of the writer's process."""
        if self.is_final:
            return False
        return (
            self.rests
            or isinstance(self.job, FolderJob)
            or (isinstance(self.job, FileJob) and self.job.policy == "end")
        )

    @property
    def is_live(self) -> bool:
        """It is to be looked at, now and then."""
        return isinstance(self.job, FileJob) and self.job.policy == "live"

    @property
    def is_artifact(self) -> bool:
        """It may take a thread for long."""
        return isinstance(self.job, ArtifactJob)

    def rest(self, mark: Mark, digest: str, *, modified_unix_s: float, read_unix_s: float) -> None:
        """The server has this now, and changes are waited for; `read_unix_s`: when the reading began."""
        self.sent_mark = mark if read_unix_s - modified_unix_s > RACY_S else None
        self.sent_digest = digest
        self.rests = not self.is_final
        self.changes = 0
        self.waits.succeed()
        self.drop_source()

    def end(self) -> None:
        """The writer's process has ended: once more, at once."""
        self.is_final = True
        self.rests = False
        self.not_before_s = 0.0

    def drop_source(self) -> None:
        """Read the file anew next time."""
        if self.source is not None:
            self.source.close()
        self.source = self.digest = None
