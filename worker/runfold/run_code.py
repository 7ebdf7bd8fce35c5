"""RunCode: the source of a run as an artifact. Part of Run."""

from __future__ import annotations

import inspect
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runfold import terminal
from runfold.run_artifacts import RunArtifacts

if TYPE_CHECKING:
    from runfold.artifacts.artifact import Artifact

#: Of a path, or of a path and the root.
PathTest = Callable[..., bool]
#: Folders below the root that hold what runs write, not source.
_OWN_FOLDERS = frozenset({"wandb", ".wandb", "runfold", ".runfold"})


def is_source(path: str) -> bool:
    """Say whether a file is Python, a Dockerfile, or requirements.txt."""
    name = os.path.basename(path)  # noqa: PTH119  # one of many
    return name.endswith(".py") or name.startswith("Dockerfile") or name == "requirements.txt"


def is_own(path: str, root: str) -> bool:
    """Say whether a file lies where runs write: wandb/, .wandb/, runfold/ and .runfold/ below the root."""
    return os.path.relpath(path, root).partition(os.sep)[0] in _OWN_FOLDERS


def safe_name(text: str) -> str:
    """Return a text as an artifact may be called: what it can't hold becomes "_", a long one is cut."""
    from runfold.protocol.artifact_names import MAX_NAME_CHARS

    name = re.sub(r"[^a-zA-Z0-9_\-.]", "_", text)
    half = (MAX_NAME_CHARS - 2) // 2
    return name if len(name) <= MAX_NAME_CHARS else f"{name[:half]}..{name[-half:]}"


class RunCode(RunArtifacts):
    """Its source."""

    _config: Any

    def log_code(
        self,
        root: str | os.PathLike[str] | None = ".",
        name: str | None = None,
        include_fn: PathTest = is_source,
        exclude_fn: PathTest = is_own,
    ) -> Artifact | None:
        """Log the source files below a folder as an artifact of type "code".

        Args:
            root: The folder.
            name: Of the artifact, what it can't hold becomes "_"; None: "source-<project>-<program>".
            include_fn: Of a path, or of a path and the root: whether it is source. By default Python,
                Dockerfiles and requirements.txt.
            exclude_fn: The same: whether it is left out. By default what runs write below the root.

        Returns:
            The artifact; None, with a warning, where there is no such file.
        """
        self._recorder.check_active("log_code")
        from runfold.artifacts.artifact import Artifact

        artifact = Artifact(safe_name(name or f"source-{self._program_name()}"), "unspecified")
        artifact._type = "code"  # noqa: SLF001  # one product; users can't give it to a name like this
        if root is not None:
            folder = os.path.abspath(root)  # noqa: PTH100  # as W&B gives it to the functions
            for path in _chosen(folder, include_fn, exclude_fn):
                artifact.add_file(path, os.path.relpath(path, folder))
        if not artifact.manifest.entries:
            terminal.warn(
                "No relevant files were detected in the specified directory. "
                "No code will be logged to your run."
            )
            return None
        self._log_artifact(artifact, None, None, None)
        self._config.update({"_wandb": {"code_path": artifact.name}}, allow_val_change=True)
        return artifact

    def _program_name(self) -> str:
        identity = self._membership.identity
        program = self._settings.program or identity.program or ""
        path = Path(program)
        if path.is_absolute() and path.is_relative_to(Path.cwd()):
            program = str(path.relative_to(Path.cwd()))
        elif path.is_absolute():
            program = path.name
        return f"{identity.project}-{program}"


def _chosen(root: str, include: PathTest, exclude: PathTest) -> Iterator[str]:
    includes, excludes = _with_root(include), _with_root(exclude)
    for folder, folders, files in os.walk(root):
        folders.sort()
        for file in sorted(files):
            path = os.path.join(folder, file)  # noqa: PTH118  # W&B's functions take text
            if includes(path, root) and not excludes(path, root) and os.path.isfile(path):  # noqa: PTH113  # same
                yield path


def _with_root(test: PathTest) -> Callable[[str, str], bool]:
    """Return a function of path and root that calls one which may take the path only."""
    try:
        count = len(inspect.signature(test).parameters)
    except (TypeError, ValueError):
        count = 1
    return test if count > 1 else lambda path, _root: test(path)
