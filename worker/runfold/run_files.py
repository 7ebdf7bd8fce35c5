"""RunFiles: the run's own files, on their way to the server. Part of Run."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

from runfold import terminal
from runfold.protocol.file_names import check_file_name
from runfold.protocol.file_records import FileRecord
from runfold.protocol.records import RecordKind
from runfold.run_part import RunPart
from runfold.uploads.jobs import ArtifactJob, FileJob, new_id
from runfold.uploads.outbox import Outbox

_WARN_EVERY_S = 60.0


class RunFiles(RunPart):
    """Files lie in `dir`; what is saved is left to the node agent, which uploads it."""

    @property
    def dir(self) -> str:
        """Absolute path of the folder of the run's files; made when first asked for."""
        folder = self._folder() / "files"
        folder.mkdir(parents=True, exist_ok=True)
        return str(folder)

    @property
    def sync_dir(self) -> str:
        """The folder above `dir`."""
        return str(Path(self.dir).parent)

    def _folder(self) -> Path:
        identity = self._membership.identity
        root = (
            Path(self._settings.root_dir) / "runfold"
            if self._settings.root_dir
            else self._settings.home / "runs"
        )
        return root.absolute() / identity.entity / identity.project / identity.run_id

    def save(self, glob_str: str | None = None, *_: Any, **__: Any) -> list[str]:
        """Without arguments: nothing, as ever. Files are not kept yet: says so and returns []."""
        self._recorder.check_active("save")
        if glob_str is not None:
            terminal.warn_once("Run.save(): this version of runfold keeps no files; nothing was saved")
        return []

    # -- for the other parts --

    @property
    def _outbox(self) -> Outbox:
        """Where this run's jobs wait."""
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
        record = FileRecord(check_file_name(name), policy, size, sha256, what)
        self._recorder.append(RecordKind.FILE, record.pack())
        return self._put_job(
            FileJob(
                id=job_id or new_id(),
                **self._job_facts(),
                name=name,
                source=str(Path(source).absolute()),
                policy=policy,
                sha256=sha256,
                is_ours=is_ours,
            )
        )

    def _job_facts(self) -> dict[str, Any]:
        """Return what each job of this process says of itself; after a record was appended."""
        identity = self._spool.identity
        return {
            "writer": self._spool.writer_id or "",
            "run": f"{identity.entity}/{identity.project}/{identity.run_id}",
            "created_unix_s": time.time(),
        }

    def _put_job(self, job: FileJob | ArtifactJob) -> str | None:
        """Leave a job to the agent; return its id, None: not kept, which is told. Never raises."""
        try:
            self._outbox.put(job, is_synced=False)
        except OSError as error:
            terminal.warn_at_most_every(
                _WARN_EVERY_S,
                "uploads",
                f"run {self._recorder.run_id}: a file will not be uploaded, "
                f"what has to be written down for it can't be: {error}",
            )
            return None
        return job.id
