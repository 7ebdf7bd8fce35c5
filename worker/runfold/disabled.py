# ruff: noqa: ARG002  # it takes everything and uses nothing
"""DisabledRun: mode="disabled". Keeps a summary and a config in memory; everything else does nothing."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from runfold.joining import Membership
from runfold.metric import Metric
from runfold.naming import random_id
from runfold.node.settings import OFFLINE_TARGET, NodeSettings
from runfold.protocol.identity import Identity
from runfold.run import Run
from runfold.run_spool import LostSpool, RunSpool
from runfold.run_status import RunStatus
from runfold.settings import Settings
from runfold.timers import NoTimer, Timer
from runfold.uploads.jobs import AnyJob


class DisabledSummary(dict[str, Any]):
    """A dict with attribute access."""

    def __getattr__(self, key: str) -> Any:
        try:
            return self[key]
        except KeyError:
            raise AttributeError(key) from None

    def __setattr__(self, key: str, value: Any) -> None:
        self[key] = value


class Nothing:
    """All its attributes and calls give itself."""

    def __getattr__(self, name: str) -> Nothing:
        if name.startswith("__"):
            raise AttributeError(name)
        return self

    def __call__(self, *args: Any, **kwargs: Any) -> Nothing:
        """Do nothing."""
        return self


class DiscardingSpool(LostSpool):
    """Keeps nothing, on purpose."""

    def append_record(self, kind: int, payload: bytes, flags: int = 0) -> bool:
        """Say that all is well."""
        return True


class NoSpool(RunSpool):
    """Opens nothing."""

    def open(self, start_step: int) -> DiscardingSpool:
        """Return a spool that keeps nothing."""
        return DiscardingSpool()


class DisabledRun(Run):
    """A run that nobody hears of. No files, no agent, no hooks."""

    def __init__(
        self,
        settings: Settings,
        config: Mapping[str, Any],
        *,
        on_finish: Callable[[Run, int | None], None] | None = None,
    ) -> None:
        """Take what the script said, for it to be read back."""
        run_id = settings.run_id or random_id()
        identity = Identity(
            entity=settings.entity or "dummy",
            project=settings.project or "dummy",
            run_id=run_id,
            group=settings.run_group,
            job_type=settings.run_job_type,
            name=settings.run_name or f"dummy-{run_id}",
            notes=settings.run_notes,
            tags=settings.run_tags or (),
        )
        node = NodeSettings(runfold_dir=settings.home, target=OFFLINE_TARGET, mode="none")
        membership = Membership(identity, node, is_offline=False)
        super().__init__(
            membership, settings, config, run_spool=NoSpool(membership, settings), on_finish=on_finish
        )
        self.summary = DisabledSummary()  # type: ignore[assignment]  # as W&B: a plain dict here

    def __reduce__(self) -> Any:
        return DisabledRun, (self.settings, self.config.as_dict())

    def log(
        self, data: Any, step: int | None = None, commit: bool | None = None, sync: bool | None = None
    ) -> None:
        """Update the summary."""
        self.summary.update(data)

    def define_metric(self, name: str, *args: Any, **kwargs: Any) -> Metric:  # checks nothing
        """Return a metric that nobody reads."""
        return Metric(name)

    def timer(self, name: str, *, collective: bool = False) -> Timer:
        """Return a timer that counts nothing."""
        return NoTimer()

    def tell_busy(self, tells: bool) -> None:
        """Do nothing."""

    def alert(self, *args: Any, **kwargs: Any) -> None:
        """Do nothing."""

    def mark_preempting(self) -> None:
        """Do nothing."""

    def write_logs(self, text: str) -> None:
        """Do nothing."""

    def watch(self, *args: Any, **kwargs: Any) -> None:
        """Do nothing, whatever is to be watched."""

    def unwatch(self, *args: Any, **kwargs: Any) -> None:
        """Do nothing."""

    def save(self, *args: Any, **kwargs: Any) -> Any:
        """Return False, as W&B does."""
        return False

    def log_artifact(self, *args: Any, **kwargs: Any) -> Any:
        """Return what takes everything and does nothing, so that `.wait()` works; as W&B does."""
        return Nothing()

    def use_artifact(self, *args: Any, **kwargs: Any) -> Any:
        """Return None, as W&B does."""
        return

    upsert_artifact = finish_artifact = link_artifact = use_artifact
    log_model = use_model = link_model = log_code = use_artifact

    def finish(self, exit_code: int | None = None, quiet: bool | None = None) -> None:
        """Do nothing but give up being the current run; log() goes on working."""
        self._leave()

    def status(self) -> RunStatus:
        """Return zeros."""
        return RunStatus(0, 0, None, 0, 0, 0)

    @property
    def step(self) -> int:
        """Always 0."""
        return 0

    @property
    def disabled(self) -> bool:
        """True."""
        return True

    @property
    def history(self) -> list[dict[str, Any]]:
        """Always empty."""
        return []

    @property
    def url(self) -> str | None:
        """None."""
        return None

    @property
    def project_url(self) -> str | None:
        """None."""
        return None

    def _files_folder(self) -> Path:
        folder = Path(tempfile.gettempdir()) / f"runfold-disabled-{self.id}" / "files"
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def _put_job(self, job: AnyJob) -> None:
        """Nobody is to upload anything."""
