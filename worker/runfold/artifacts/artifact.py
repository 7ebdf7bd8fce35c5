"""Artifact: files that belong together, a draft or a version with a number. Made of the `*_part` classes.

draft      artifact = Artifact("data", "dataset"); artifact.add_dir("data")
logged     run.log_artifact(artifact): the contents are fixed, the node's agent uploads them
version    artifact.wait(): the server has it; artifact.version == "v0"
"""

from __future__ import annotations

import copy
import secrets
from typing import Any

from runfold import terminal
from runfold.artifacts.draft import Draft
from runfold.artifacts.labels import (
    check_aliases,
    check_description,
    check_metadata,
    check_name,
    check_type,
)
from runfold.artifacts.relations_part import RelationsPart
from runfold.current_run import current_run
from runfold.settings import Settings, process_environment


class Artifact(RelationsPart):
    """Files by name, their digest, and what people say of them. Several threads may add files to a draft.

    Args:
        name: At most 128 letters, digits, "_", "-" and ".".
        type: What kind of thing it is: "dataset", "model", ...; all versions of a name have one type.
        description: A text for people.
        metadata: A dict of plain values.
        incremental: Its files are added to those of the collection's latest version, when the server makes
            the next one of both; of two with one name the added one counts. See also `new_draft()`.
        use_as: Accepted for old scripts.
        storage_region: Accepted; the server knows where it keeps things.
        digest_algorithm: "MD5". Others are accepted: collections are all known by MD5 here.

    Raises:
        ValueError: The name or type can't be one. TypeError: The metadata is no dict.
    """

    def __init__(  # noqa: PLR0917  # W&B's signature
        self,
        name: str,
        type: str,  # noqa: A002  # W&B's name
        description: str | None = None,
        metadata: dict[str, Any] | None = None,
        incremental: bool = False,
        use_as: str | None = None,
        storage_region: str | None = None,
        digest_algorithm: str = "MD5",
    ) -> None:
        self._base_name = check_name(name)
        self._type = check_type(type, name)
        self._storage_region = storage_region
        if digest_algorithm == "XXH128":
            terminal.warn_once("digest_algorithm='XXH128' is not used: collections are known by MD5 here")
        self._client_id = secrets.token_hex(16)
        if incremental:
            terminal.warn("Using experimental arg `incremental`")
        self._is_incremental = bool(incremental)
        self._use_as = use_as
        self._edited = {
            "description": check_description(description),
            "metadata": check_metadata(metadata),
            "aliases": [],
            "tags": [],
        }
        self._saved = copy.deepcopy(self._edited)
        run = current_run()
        settings = run.settings if run is not None else Settings.resolved({}, None, process_environment())
        self._draft = Draft(settings.home)

    def new_draft(self) -> Artifact:
        """Return a draft with the version's files, to be changed and logged as the next one.

        Raises:
            ArtifactNotLoggedError: It is a draft.
        """
        document = self._version("new_draft")
        draft = Artifact(
            document["source"]["collection"],
            self.type,
            self.description,
            copy.deepcopy(self.metadata),
        )
        contents = draft._contents("new_draft")
        for name, entry in self._manifest.entries.items():
            contents.add_entry(name, entry)
        return draft

    def save(self, project: str | None = None, settings: Settings | dict[str, Any] | None = None) -> None:
        """Tell the server what was changed; a draft is logged, by the current run or one that is made for it.

        Raises:
            CommError: The server can't be reached, or refused.
        """
        document = self._refresh()
        if document is None:
            self._save_draft(project, settings)
            return
        changes = self._changes()
        if changes:
            changes["collection"] = document["collection_id"]
            self._take(self._server().patch_json(self._route(), changes)["artifact"])

    def link(self, target_path: str, aliases: list[str] | str | None = None) -> Artifact:
        """Show the version in another collection too, such as a registry's; a draft is logged first.

        Args:
            target_path: "collection", "project/collection" or "entity/project/collection".
            aliases: In that collection; "latest" always moves.

        Returns:
            The version as that collection shows it.

        Raises:
            ValueError: The path or an alias can't be one. CommError: The server can't be reached, or refused.
        """
        parts = target_path.split("/")
        if not all(parts) or len(parts) > 3:
            raise ValueError(
                f"{target_path!r} is no target: use collection, project/collection or "
                "entity/project/collection"
            )
        said = check_aliases(aliases)
        if self.is_draft():
            if self._delivery is None:
                self.save()
            self.wait()
        body = {"target": target_path, "aliases": said}
        document = self._server().post(self._route("links"), body)["artifact"]
        return Artifact._of_server(self._server(), document)

    def _save_draft(self, project: str | None, settings: Settings | dict[str, Any] | None) -> None:
        run = current_run()
        if run is not None:
            run.log_artifact(self)
            return
        from runfold.init import init

        with init(project=project, job_type="auto", settings=settings) as made:
            made.log_artifact(self)

    def __repr__(self) -> str:
        return f"<Artifact {self.name if self._document is None else self.id}>"
