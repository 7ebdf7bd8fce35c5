"""RunFiles: the run's own files, on their way to the server. Part of Run."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from runfold import terminal
from runfold.protocol.records import RecordKind
from runfold.run_part import RunPart

# What saves and uploads is imported with the first file: a run that has none does without.
if TYPE_CHECKING:
    from runfold.saving import Placed
    from runfold.uploads.awaiting import UploadCounts
    from runfold.uploads.jobs import AnyJob, FolderJob
    from runfold.uploads.outbox import Outbox

_WARN_EVERY_S = 60.0
#: Jobs between two looks at which of them are done, so that their ids don't fill memory.
_FORGET_EVERY = 1000


class RunFiles(RunPart):
    """Files lie in `dir`; what is saved is left to the node agent, which uploads it."""

    _folder_job: FolderJob | None

    @property
    def dir(self) -> str:
        """Absolute path of the folder of the run's files; made when first asked for.

        What lies in it when the process ends is uploaded then.
        """
        try:
            folder = self._files_folder()
        except OSError as error:
            terminal.warn_once(f"the run's folder can't be made: {error}. Training goes on")
            return str(self._folder() / "files")
        if not self._recorder.is_ended and self._folder_job is None:
            from runfold.uploads.jobs import FolderJob

            self._recorder.begin()
            job = self._folder_job = FolderJob(**self._job_facts(), source=str(folder))
            self._put_job(job)
        return str(folder)

    @property
    def sync_dir(self) -> str:
        """The folder above `dir`."""
        with contextlib.suppress(OSError):  # `dir` tells
            self._files_folder()
        return str(self._folder())

    def save(
        self,
        glob_str: str | bytes | os.PathLike[str] | None = None,
        base_path: str | bytes | os.PathLike[str] | None = None,
        policy: str = "live",
        *,
        glob: bool = True,
    ) -> list[str]:
        """Save files with the run: they are seen in `dir`, and the node agent uploads them.

        Args:
            glob_str: A path or glob, expanded now. A relative one keeps its folders; of an absolute one only
                the last folder is kept.
            base_path: What is left out of the names; the glob must lie below it.
            policy: "live": uploaded again whenever it changes, and a last time at the end; "now": once;
                "end": as it is when the process has ended.
            glob: False: `glob_str` is a name, whatever characters it holds.

        Returns:
            The places in `dir`, sorted; nothing for an address such as s3://. Without arguments, nothing.

        Raises:
            ValueError: Another policy, or a glob that leaves its base.
            UsageError: The run is finished.
        """
        from runfold.saving import choose, place

        self._recorder.check_active("save")
        chosen = choose(glob_str, base_path, policy, is_glob=glob) if glob_str is not None else None
        if chosen is None:
            return []
        found: list[str] = []
        try:
            folder = self._files_folder()
            for placed in place(chosen, folder):
                found.append(str(placed.link))
                self._send_placed(placed, folder, policy)
        except OSError as error:
            terminal.warn(f"Run.save({glob_str!r}): {error}. Training goes on")
        return sorted(found)

    def restore(
        self,
        name: str,
        run_path: str | None = None,
        replace: bool = False,
        root: str | os.PathLike[str] | None = None,
    ) -> TextIO | None:
        """Download a file of a run, by default of this one, and return it open; None: it has no such file.

        Args:
            name: As it was saved.
            run_path: "entity/project/run_id".
            replace: Download it even if it is there.
            root: Where to; by default `dir`.

        Raises:
            CommError: The server can't be reached, or knows no such run (then a ValueError too).
            UsageError: The run is offline, and no server is set or registered.
            ValueError: The file was saved and has not arrived; or no file may have this name.
        """
        from runfold.restoring import restore

        return restore(name, run_path, replace=replace, root=root, run=self)  # type: ignore[arg-type]  # a Run

    def _files_folder(self) -> Path:
        folder = self._folder() / "files"
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def _folder(self) -> Path:
        identity = self._membership.identity
        root = (
            Path(self._settings.root_dir) / "runfold"
            if self._settings.root_dir
            else self._settings.home / "runs"
        )
        return root.absolute() / identity.entity / identity.project / identity.run_id

    def _send_placed(self, placed: Placed, folder: Path, policy: str) -> None:
        if placed.how == "folder":
            return
        if placed.how == "copy" and policy == "live":
            terminal.warn_once(
                f"{placed.source} is a copy, since links can't be made there: it is uploaded once, not live"
            )
            policy = "now"
        from runfold.protocol.file_names import FileNameError

        name = placed.link.relative_to(folder).as_posix()
        watched = (name, str(placed.source), policy)
        if policy != "now" and watched in self._watched:
            return  # saved in each epoch, and watched since the first one
        try:
            size = placed.source.stat().st_size
            job_id = self._send_file(name, placed.source, policy=policy, size=size)
        except FileNameError as error:
            terminal.warn_once(f"Run.save(): {error}; it was not saved")
        else:
            if policy != "now" and job_id is not None:
                self._watched.add(watched)

    # -- the end --

    def reset_after_fork(self) -> None:
        """The parent's jobs are not this process's."""
        super().reset_after_fork()
        self._begin_files()

    def _begin_files(self) -> None:
        #: Of this process: ids of its jobs, those that are done left out now and then.
        self._jobs: set[str] = set()
        self._jobs_count = self._jobs_lost = 0
        # Reentrant: a signal handler may save too.
        self._jobs_lock = threading.RLock()
        self._forget_at = _FORGET_EVERY
        #: When failures are looked for next: while files are saved, once a minute.
        self._tell_at_s = 0.0
        #: (name, source, policy) of what is watched.
        self._watched: set[tuple[str, str, str]] = set()
        self._folder_job = None

    def _wait(self, *, quiet: bool = False, since_mono_s: float | None = None) -> None:
        since_mono_s = time.monotonic() if since_mono_s is None else since_mono_s
        super()._wait(quiet=quiet, since_mono_s=since_mono_s)
        if self._jobs:
            from runfold.uploads.awaiting import wait_for_uploads

            wait_for_uploads(
                self._outbox,
                set(self._jobs),
                node=self._membership.node,
                run_id=self._recorder.run_id,
                is_offline=self._membership.is_offline,
                is_quiet=quiet or self._settings.quiet,
                until_mono_s=since_mono_s + self._settings.finish_timeout,
                may_wait_longer="finish_timeout" not in self._settings.said,
                call_agent=self._spool.call_agent,
            )

    def _leave(self, code: int | None = 0) -> None:
        if self._folder_job is not None:
            from runfold.uploads.awaiting import is_empty

            if is_empty(Path(self._folder_job.source)):
                self._outbox.forget(self._folder_job)  # there is nothing to wait for
        super()._leave(code)

    def _upload_counts(self) -> UploadCounts:
        from runfold.uploads.awaiting import count_uploads

        return count_uploads(self._outbox, set(self._jobs), self._jobs_count, self._jobs_lost)

    # -- for the other parts --

    @property
    def _outbox(self) -> Outbox:
        """Where this run's jobs wait."""
        from runfold.uploads.outbox import Outbox

        return Outbox(self._membership.node.target_dir)

    def _send_file(
        self,
        name: str,
        source: str | os.PathLike[str],
        *,
        policy: str = "now",
        sha256: str | None = None,
        size: int | None = None,
        is_ours: bool = False,
        what: str = "file",
        job_id: str | None = None,
    ) -> str | None:
        """Say that a file belongs to the run, and leave it to the agent; return the job's id, None: not kept.

        Waits for no disk and no network. Thread-safe.

        Args:
            name: Within the run's files, parts separated by "/".
            source: What is read when its time comes.
            policy: "now", "end" or "live"; see `FileJob`.
            sha256: Of what is meant; None: the file as it is then.
            is_ours: `source` lies in `self._outbox.staging(job_id)`, and goes with the job.
            what: "file" or "media".

        Raises:
            FileNameError: (a ProtocolError) No file may have this name.
            UsageError: The run is finished.
        """
        from runfold.protocol.failpoints import hit
        from runfold.protocol.file_names import check_file_name
        from runfold.protocol.file_records import FileRecord
        from runfold.uploads.jobs import FileJob, new_id

        check_file_name(name)
        self._recorder.begin()
        # The job first: who is killed in between leaves a file that comes unannounced, not one that is
        # announced and never comes.
        job_id = self._put_job(
            FileJob(
                id=job_id or new_id(),
                **self._job_facts(),
                name=name,
                source=str(Path(source).absolute()),
                policy=policy,
                sha256=sha256,
                is_ours=is_ours,
                what=what,
            )
        )
        hit("files.after_job")
        why = (
            None
            if job_id is not None
            else "it could not be left to be uploaded: the disk of its node refused"
        )
        self._recorder.append(RecordKind.FILE, FileRecord(name, policy, size, sha256, what, why).pack())
        return job_id

    def _job_facts(self) -> dict[str, Any]:
        """Return what each job of this process says of itself; after `Recorder.begin`, or a record."""
        identity = self._spool.identity
        return {
            "writer": self._spool.writer_id or "",
            "run": f"{identity.entity}/{identity.project}/{identity.run_id}",
            "created_unix_s": time.time(),
            "place": self._job_place,
        }

    @property
    def _job_place(self) -> str:
        """Where this process's paths mean files."""
        from runfold.node.lock import place_of

        identity = self._spool.identity
        return place_of(identity.boot_id or identity.host or "", identity.pid_namespace)

    def _put_job(self, job: AnyJob) -> str | None:
        """Leave a job to the agent; return its id, None: not kept, which is told. Never raises."""
        try:
            self._outbox.put(job, is_synced=False)
        except OSError as error:
            from runfold.spool.directory import remove_tree

            with contextlib.suppress(OSError):
                remove_tree(self._outbox.staging(job.id))  # nobody will come for it
            self._jobs_count += 1
            self._jobs_lost += 1
            terminal.warn_at_most_every(
                _WARN_EVERY_S,
                "uploads",
                f"run {self._recorder.run_id}: a file will not be uploaded, "
                f"since that can't be written down: {error}. Training goes on",
            )
            return None
        self._note_job(job.id)
        return job.id

    def _note_job(self, job_id: str) -> None:
        """A job of this process was left: finish() waits for it, and status() counts it."""
        from runfold.uploads.awaiting import failures, tell_failures, waiting_jobs

        now_s = time.monotonic()
        if now_s >= self._tell_at_s:
            self._tell_at_s = now_s + _WARN_EVERY_S
            tell_failures(self._outbox, self._jobs, self._recorder.run_id)
        with self._jobs_lock:
            self._jobs_count += 1
            self._jobs.add(job_id)
            if len(self._jobs) >= self._forget_at:
                done = self._jobs - waiting_jobs(self._outbox, self._jobs)
                self._jobs_lost += len(failures(self._outbox, done))
                self._jobs -= done
                self._forget_at = len(self._jobs) + _FORGET_EVERY
