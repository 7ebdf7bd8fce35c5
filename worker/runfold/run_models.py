"""RunModels: artifacts of type "model", by path. Part of Run."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from runfold.errors import CommError, UsageError
from runfold.run_artifacts import RunArtifacts

if TYPE_CHECKING:
    from runfold.artifacts.artifact import Artifact

_NO_MODEL = (
    "You can only use this method for 'model' artifacts. For an artifact to be a 'model' artifact, its type "
    "property must contain the substring 'model'."
)


class RunModels(RunArtifacts):
    """W&B's short ways."""

    def log_model(
        self,
        path: str | os.PathLike[str],
        name: str | None = None,
        aliases: str | list[str] | None = None,
    ) -> None:
        """Log a file or folder, or a reference, as a version of a model, an output of the run.

        Args:
            path: A file, a folder, or a reference such as "s3://bucket/path".
            name: Of the model; None: "run-<id>-<name of the file or folder>".
            aliases: Other names of the version; "latest" is always among them.

        Raises:
            ValueError: The name or an alias can't be one, or the path is nothing.
            UsageError: The run is finished.
        """
        self._recorder.check_active("log_model")
        self._log_artifact(path, name, "model", aliases)

    def use_model(self, name: str) -> str:
        """Download a model that the run uses, and return where it is: its only file, or the folder.

        Args:
            name: "[entity/[project/]]name:version", or an alias for the version.

        Raises:
            RuntimeError: The run is offline. AssertionError: The artifact's type has no "model".
            As `use_artifact` and `Artifact.download`.
        """
        self._recorder.check_active("use_model")
        if self._membership.is_offline:
            raise RuntimeError("`use_model` not supported in offline mode.")
        artifact = self.use_artifact(name)
        if "model" not in artifact.type.lower():
            raise AssertionError(_NO_MODEL)
        folder = artifact.download()
        names = {name.partition("/")[0] for name in artifact.manifest.entries}
        return str(Path(folder, names.pop())) if len(names) == 1 else folder

    def link_model(
        self,
        path: str | os.PathLike[str],
        registered_model_name: str,
        name: str | None = None,
        aliases: str | list[str] | None = None,
    ) -> Artifact | None:
        """Log a model, unless this content is a version already, and link it to a registered model.

        Args:
            path: As of `log_model`.
            registered_model_name: Of the collection in the registry; made if there is none.
            name: As of `log_model`.
            aliases: In the registry; "latest" always moves.

        Returns:
            The version as the registry shows it.

        Raises:
            AssertionError: `registered_model_name` has a "/", or the model's type has no "model".
            ValueError: A name or an alias can't be one.
            UsageError: The run is offline: nothing is logged then.
            CommError: The server can't be reached, or refused.
        """
        self._recorder.check_active("link_model")
        if "/" in registered_model_name:
            raise AssertionError(
                "Please provide only the name of the registered model. "
                "Do not append the entity or project name."
            )
        if self._membership.is_offline:
            raise UsageError("a model can't be linked in an offline run: the registry is the server's")
        type_ = self._type_of_model(name) if name is not None else "model"
        artifact = self._log_artifact(path, name, type_, None)
        from runfold.protocol.artifact_names import REGISTRY_PROJECT

        target = f"{self._membership.identity.entity}/{REGISTRY_PROJECT}/{registered_model_name}"
        return self.link_artifact(artifact, target, aliases)

    def _type_of_model(self, name: str) -> str:
        """Return the type that a model has already, "model" for a new one. AssertionError for no model."""
        from runfold.artifacts.lookup import type_of_collection

        identity = self._membership.identity
        try:
            found = type_of_collection(self._server_connection(), identity.entity, identity.project, name)
        except CommError:
            return "model"
        if found is not None and "model" not in found.lower():
            raise AssertionError(_NO_MODEL)
        return found or "model"
