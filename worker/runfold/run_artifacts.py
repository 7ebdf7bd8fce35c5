"""RunArtifacts: the run logs and uses artifacts. Part of Run.

Logging: the contents lie in the outbox, a record says what was meant, the node's agent uploads. No network
but a short look whether the collection has another type. Using: the server is asked, and must answer.
"""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Any

from runfold import terminal
from runfold.acknowledgement import registered_url
from runfold.errors import CommError
from runfold.protocol.records import RecordKind
from runfold.run_files import RunFiles

if TYPE_CHECKING:
    from runfold.api.connection import Connection
    from runfold.artifacts.artifact import Artifact
    from runfold.artifacts.logging import Place
    from runfold.protocol.file_records import ArtifactRecord

#: Longest look at a collection's type before an artifact is logged.
_TYPE_CHECK_S = 2.0
#: After it was in vain, the next ones do without for so long.
_TYPE_CHECK_AGAIN_S = 60.0
#: Types that are remembered.
_TYPES_KEPT = 100


class RunArtifacts(RunFiles):
    """W&B's methods. All raise UsageError when the run is finished."""

    _artifact_connection: Connection | None = None
    #: For looks that nobody waits for long.
    _hasty_connection: Connection | None = None
    _type_check_after_mono_s: float = 0.0
    #: Of collections that were looked at, or that this process logs into: a type is for ever.
    _types_of_artifacts: tuple[tuple[str, str], ...] = ()

    def log_artifact(
        self,
        artifact_or_path: Artifact | str | os.PathLike[str],
        name: str | None = None,
        type: str | None = None,  # noqa: A002  # W&B's name
        aliases: str | list[str] | None = None,
        tags: str | list[str] | None = None,
    ) -> Artifact:
        """Log an artifact as an output of the run. Returns when its contents are safe on this machine.

        If its content is that of the newest version, no version is made: that one gets the aliases and tags.

        Args:
            artifact_or_path: An `Artifact`, whose contents are fixed from now on; or a file, a folder, or a
                reference such as "s3://bucket/path".
            name: Of a path's artifact; None: "run-<id>-<name of the file or folder>".
            type: Of a path's artifact; None: "unspecified".
            aliases: Other names of the version; "latest" is always among them.
            tags: Words to find it by.

        Returns:
            The artifact; `wait()` returns when the server has it.

        Raises:
            ValueError: A name, alias or tag can't be one, the path is nothing, the type is another one.
            TypeError: What is to be logged is neither an artifact nor a path.
        """
        self._recorder.check_active("log_artifact")
        return self._log_artifact(artifact_or_path, name, type, aliases, tags=tags)

    def upsert_artifact(
        self,
        artifact_or_path: Artifact | str | os.PathLike[str],
        name: str | None = None,
        type: str | None = None,  # noqa: A002  # W&B's name
        aliases: str | list[str] | None = None,
        distributed_id: str | None = None,
    ) -> Artifact:
        """Add a part to a version that several processes write; `finish_artifact` makes the version.

        Args:
            distributed_id: What the parts of one version share; None: the run's group, or the run itself
                where several processes write it.

        Raises:
            TypeError: There is neither, or it is no text. As `log_artifact` does.
        """
        self._recorder.check_active("upsert_artifact")
        shared_id = self._distributed_id(distributed_id, "upsert")
        return self._log_artifact(
            artifact_or_path, name, type, aliases, distributed_id=shared_id, finalize=False
        )

    def finish_artifact(
        self,
        artifact_or_path: Artifact | str | os.PathLike[str],
        name: str | None = None,
        type: str | None = None,  # noqa: A002  # W&B's name
        aliases: str | list[str] | None = None,
        distributed_id: str | None = None,
    ) -> Artifact:
        """Add the last part, and make the version of all that were added before, in whatever process.

        Args and Raises as of `upsert_artifact`. What is added later begins the next version.
        """
        self._recorder.check_active("finish_artifact")
        shared_id = self._distributed_id(distributed_id, "finish")
        return self._log_artifact(artifact_or_path, name, type, aliases, distributed_id=shared_id)

    def use_artifact(
        self,
        artifact_or_name: str | Artifact,
        type: str | None = None,  # noqa: A002  # W&B's name
        aliases: str | list[str] | None = None,
        use_as: str | None = None,
    ) -> Artifact:
        """Say that an artifact is an input of the run, and return it; `download()` brings its files.

        Args:
            artifact_or_name: "[entity/[project/]]name:version or alias", a digest, or an artifact. A draft is
                logged first.
            type: What its type must be; None: any.
            aliases: Given to a draft that is logged.
            use_as: What for.

        Raises:
            TypeError: The run is offline, or `use_as` is no text.
            ValueError: It has another type, or there is no such artifact.
            CommError: The server can't be reached.
        """
        self._recorder.check_active("use_artifact")
        if self._membership.is_offline:
            raise TypeError("Cannot use artifact when in offline mode.")
        if use_as is not None and not isinstance(use_as, str):
            raise TypeError(f"use_as must be text, not {use_as!r}")
        from runfold.artifacts.artifact import Artifact
        from runfold.artifacts.lookup import find_artifact

        if isinstance(artifact_or_name, str):
            identity = self._membership.identity
            artifact = find_artifact(
                self._server_connection(), artifact_or_name, identity.entity, identity.project
            )
            if type is not None and type != artifact.type:
                raise ValueError(
                    f"Supplied type {type} does not match type {artifact.type} of artifact {artifact.name}"
                )
        elif isinstance(artifact_or_name, Artifact):
            artifact = artifact_or_name
            if artifact.is_draft():
                if artifact._delivery is None:  # noqa: SLF001  # one product
                    self._log_artifact(artifact, None, None, aliases)
                artifact.wait()
        else:
            raise ValueError(  # noqa: TRY004  # W&B's class
                'You must pass an artifact name (e.g. "pedestrian-dataset:v1"), an instance of '
                "`wandb.Artifact`, or `wandb.Api().artifact()` to `use_artifact`"
            )
        from runfold.protocol.file_records import ArtifactUseRecord

        artifact._use_as = use_as or artifact.name  # noqa: SLF001  # one product
        self._recorder.append(RecordKind.ARTIFACT_USE, ArtifactUseRecord(str(artifact.id), use_as).pack())
        return artifact

    def link_artifact(
        self, artifact: Artifact, target_path: str, aliases: str | list[str] | None = None
    ) -> Artifact | None:
        """Show a version in another collection too; a draft is logged first. Return it as it is there.

        Args:
            target_path: "collection", "project/collection" or "entity/project/collection".
            aliases: In that collection; "latest" always moves.

        Raises:
            NotImplementedError: The run is offline. ValueError: The path or an alias can't be one.
            CommError: The server can't be reached, or refused.
        """
        self._recorder.check_active("link_artifact")
        if artifact.is_draft() and artifact._delivery is None:  # noqa: SLF001  # one product
            self._log_artifact(artifact, None, None, None)
        if self._membership.is_offline:
            raise NotImplementedError("Artifacts can't be linked in an offline run.")
        return artifact.link(target_path, aliases)

    # -- logging --

    def _log_artifact(
        self,
        artifact_or_path: Artifact | str | os.PathLike[str],
        name: str | None,
        type: str | None,  # noqa: A002  # W&B's name
        aliases: str | list[str] | None,
        *,
        tags: str | list[str] | None = None,
        distributed_id: str | None = None,
        finalize: bool = True,
    ) -> Artifact:
        from runfold.artifacts import logging as artifact_logging
        from runfold.artifacts.labels import check_aliases, check_tags, with_latest

        said_aliases, said_tags = with_latest(check_aliases(aliases)), check_tags(tags)
        artifact = artifact_logging.prepare(artifact_or_path, name, type, self._membership.identity.run_id)
        artifact.distributed_id = distributed_id
        self._check_type(artifact)
        about = artifact_logging.describe(
            artifact, said_aliases, said_tags, distributed_id=distributed_id, finalize=finalize
        )
        self._deliver_artifact(artifact, about)
        return artifact

    def _deliver_artifact(self, artifact: Artifact, about: dict[str, Any]) -> None:
        from runfold.artifacts import logging as artifact_logging

        try:
            artifact_logging.deliver(
                artifact, about, self._outbox_place(), say=self._say_artifact, connect=self._server_connection
            )
        except OSError as error:
            # A full disk is no reason to end training; wait() and finish() tell what is not there.
            artifact._lose(str(error))  # noqa: SLF001  # one product
            terminal.warn(f"artifact {artifact.name} can't be kept: {error}. Training goes on")
        self._spool.call_agent()

    def _outbox_place(self) -> Place:
        from runfold.artifacts.logging import Place

        identity, node = self._membership.identity, self._membership.node
        return Place(
            target_dir=node.target_dir,
            run=f"{identity.entity}/{identity.project}/{identity.run_id}",
            writer=self._begin_writer,
            call_agent=self._spool.call_agent,
            is_offline=self._membership.is_offline,
            node_place=self._job_place,
            note_job=self._note_job,
        )

    def _begin_writer(self) -> str:
        self._recorder.begin()
        return self._spool.writer_id or ""

    def _say_artifact(self, record: ArtifactRecord) -> None:
        self._recorder.append(RecordKind.ARTIFACT, record.pack())

    def _distributed_id(self, said: str | None, call: str) -> str:
        if said is not None and not isinstance(said, str):
            raise TypeError(f"distributed_id must be text, not {said!r}")
        identity = self._membership.identity
        found = said or identity.group or (identity.run_id if identity.mode == "shared" else None)
        if not found:
            raise TypeError(f"Cannot {call} artifact unless run is in a group or distributed_id is provided")
        return found

    def _check_type(self, artifact: Artifact) -> None:
        """Raise ValueError, in W&B's words, where the collection has another type. In doubt, do nothing."""
        now = time.monotonic()
        pair = (artifact._base_name, artifact.type)  # noqa: SLF001  # one product
        if self._membership.is_offline or pair in self._types_of_artifacts:
            return
        found = dict(self._types_of_artifacts).get(pair[0])
        if found is None and now >= self._type_check_after_mono_s:
            try:
                found = self._look_up_type(pair[0])
            except CommError:
                self._type_check_after_mono_s = now + _TYPE_CHECK_AGAIN_S
                return
        if found is not None and found != artifact.type:
            raise ValueError(
                f"Artifact {artifact.name} already exists with type '{found}'; "
                f"cannot create another with type '{artifact.type}'"
            )
        self._types_of_artifacts = (*self._types_of_artifacts[-_TYPES_KEPT:], pair)

    def _look_up_type(self, name: str) -> str | None:
        from runfold.artifacts.lookup import type_of_collection

        if self._hasty_connection is None:
            self._hasty_connection = self._new_connection(_TYPE_CHECK_S)
        identity = self._membership.identity
        return type_of_collection(self._hasty_connection, identity.entity, identity.project, name)

    # -- the server --

    def _server_connection(self) -> Connection:
        """Return the server's connection. CommError where no address is known."""
        if self._artifact_connection is None:
            self._artifact_connection = self._new_connection(None)
        return self._artifact_connection

    def _new_connection(self, timeout_s: float | None) -> Connection:
        from runfold.api.connection import Connection

        node = self._membership.node
        url = self._settings.base_url or node.url or registered_url(node)
        if url is None:
            raise CommError(
                "no HTTP address of a runfold server is known: set RUNFOLD_URL, or start `runfold up`"
            )
        return Connection(url, self._settings.api_key or node.api_key, timeout_s)
