"""RunFiles: the folder of a run's files. Part of Run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from runfold import terminal
from runfold.run_part import RunPart


class RunFiles(RunPart):
    """Files lie in `dir`."""

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
