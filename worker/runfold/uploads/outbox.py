"""The outbox of a target directory: jobs that wait, results of those that ended. Survives every process.

    <target_dir>/uploads/<id>.job       a job that waits; written under another name, synced, renamed
    <target_dir>/uploads/<id>.done      its result
    <target_dir>/uploads/staging/<id>/  copies that go with a job

A job is removed after its result is written: a crash between the two has it done again, to the same effect.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Collection, Iterable
from pathlib import Path

from runfold.protocol.errors import ProtocolError
from runfold.spool.directory import remove_tree
from runfold.uploads.jobs import AnyJob, Result, parse_job

OUTBOX_NAME = "uploads"
STAGING_NAME = "staging"
#: One job or result.
MAX_JOB_BYTES = 16 * 1024 * 1024
#: How long results are kept.
KEEP_RESULTS_S = 86_400.0
#: How long what became no job is kept: a draft may take days.
KEEP_UNFINISHED_S = 7 * 86_400.0


class Outbox:
    """Jobs of one target directory. Any number of processes put, one agent takes."""

    def __init__(self, target_dir: Path) -> None:
        self.directory = target_dir / OUTBOX_NAME

    def put(self, job: AnyJob, *, is_synced: bool = True) -> None:
        """Leave a job. When this returns it survives kill -9 of anything, and a power loss.

        The copies that go with it are the kernel's to write (within about 30 s): one that a power loss took
        fails by its digest, and that is told.

        Args:
            is_synced: False: wait for no disk. Then `sync` makes it outlive a power loss, as the spool does.

        Raises:
            OSError: It could not be kept.
        """
        self._write(f"{job.id}.job", job.to_json(), is_synced=is_synced)

    def sync(self, ids: Iterable[str]) -> None:
        """Bring jobs to disk that were put without waiting for it; what is done meanwhile is left out."""
        for job_id in ids:
            with contextlib.suppress(OSError):
                _sync(self.directory / f"{job_id}.job", os.O_RDONLY)
        with contextlib.suppress(OSError):
            _sync(self.directory, os.O_RDONLY | os.O_DIRECTORY)

    def waiting(self) -> list[AnyJob]:
        """Return the jobs, oldest first. What is no job is left where it is, and not returned."""
        return self.read(self.ids())

    def read(self, ids: Iterable[str]) -> list[AnyJob]:
        """Return those of the jobs that wait, oldest first."""
        found = []
        for job_id in ids:
            with contextlib.suppress(OSError, ProtocolError):
                job = parse_job(self._read(self.directory / f"{job_id}.job"))
                if job.id == job_id:  # what goes with it is found, and removed, by its id
                    found.append(job)
        return sorted(found, key=lambda job: (job.created_unix_s, job.id))

    def ids(self) -> set[str]:
        """Return the ids of the jobs that wait. OSError: that can't be seen now."""
        return {path.stem for path in self._files(".job")}

    def end(self, job: AnyJob, *, error: str | None = None, **document: object) -> None:
        """Write the job's result, then forget the job and what went with it."""
        result = Result(
            id=job.id,
            kind=job.kind,
            run=job.run,
            writer=job.writer,
            ended_unix_s=time.time(),
            error=error,
            document=document,
        )
        self._write(f"{job.id}.done", result.to_json())
        self.forget(job)

    def forget(self, job: AnyJob) -> None:
        """Forget a job and what went with it, without a result: it is done, and nobody asks for more."""
        (self.directory / f"{job.id}.job").unlink(missing_ok=True)
        remove_tree(self.staging(job.id))

    def results(self, ids: Collection[str]) -> list[Result]:
        """Return what became of those of the jobs that ended with a result and are not forgotten."""
        found = (self.result(path.stem) for path in self._files(".done") if path.stem in ids)
        return [result for result in found if result is not None]

    def result(self, job_id: str) -> Result | None:
        """Return what became of a job; None while it waits, or when that was forgotten."""
        try:
            return Result.from_json(self._read(self.directory / f"{job_id}.done"))
        except (OSError, ProtocolError):
            return None

    def staging(self, job_id: str) -> Path:
        """Return the folder for copies that go with a job; the caller makes it."""
        return self.directory / STAGING_NAME / job_id

    def tidy(self, now_unix_s: float) -> None:
        """Remove results that are old, and what a killed process left unfinished."""
        for path in self._files(".done"):
            with contextlib.suppress(OSError):
                if now_unix_s - path.stat().st_mtime > KEEP_RESULTS_S:
                    path.unlink()
        with contextlib.suppress(OSError):
            waiting = self.ids()
            for path in (*self.directory.glob(".*"), *(self.directory / STAGING_NAME).glob("*")):
                is_old = now_unix_s - path.stat().st_mtime > KEEP_UNFINISHED_S
                if is_old and path.name not in waiting:
                    remove_tree(path) if path.is_dir() else path.unlink()

    def _files(self, suffix: str) -> list[Path]:
        try:
            with os.scandir(self.directory) as entries:
                return [Path(entry.path) for entry in entries if entry.name.endswith(suffix)]
        except (FileNotFoundError, NotADirectoryError):
            return []

    def _read(self, path: Path) -> bytes:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
        with open(fd, "rb") as file:
            data = file.read(MAX_JOB_BYTES + 1)
        if len(data) > MAX_JOB_BYTES:
            raise ProtocolError(f"{path.name} is too large", field="job", limit=MAX_JOB_BYTES)
        return data

    def _write(self, name: str, data: bytes, *, is_synced: bool = True) -> None:
        self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        unfinished = self.directory / f".{name}.{os.getpid()}"
        fd = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            with open(fd, "wb") as file:
                file.write(data)
                file.flush()
                if is_synced:
                    os.fsync(fd)
            unfinished.rename(self.directory / name)
        except OSError:
            with contextlib.suppress(OSError):
                unfinished.unlink()  # a full disk is not to be filled with halves
            raise
        if is_synced:
            _sync(self.directory, os.O_RDONLY | os.O_DIRECTORY)


def _sync(path: Path, flags: int) -> None:
    fd = os.open(path, flags | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
