"""RelationsPart: a version and the rest of the server: saving, links, lineage, deletion. Part of Artifact."""

from __future__ import annotations

import operator
from typing import TYPE_CHECKING, Any, Self

from runfold.api.errors import RunNotFoundError
from runfold.api.pages import Pages
from runfold.api.paths import route
from runfold.artifacts.download_part import DownloadPart
from runfold.artifacts.errors import ArtifactNotLoggedError
from runfold.artifacts.files import ArtifactFiles
from runfold.artifacts.labels import check_aliases, check_description, check_metadata, check_tags
from runfold.artifacts.ttl import ArtifactTTL

if TYPE_CHECKING:
    from runfold.api.run import Run


class RelationsPart(DownloadPart):
    """What is told to the server, and asked of it."""

    def finalize(self) -> None:
        """Fix the contents: no more files. log_artifact() does so."""
        self._is_final = True

    def is_draft(self) -> bool:
        """Say whether it is no version yet."""
        return self._refresh() is None

    def wait(self, timeout: float | None = None) -> Self:
        """Wait until it is a version, and return it. Of a part that others finish, until it is uploaded.

        Args:
            timeout: Seconds; None: as long as it takes.

        Raises:
            ArtifactNotLoggedError: It was not logged, or the run is offline.
            WaitTimeoutError: It took longer.
            ValueError: It will never be a version; the message says why.
        """
        if self._refresh() is None:
            if self._delivery is None:
                raise ArtifactNotLoggedError("Artifact.wait", self)
            document = self._delivery.wait(timeout)
            if document is not None:
                self._connection = self._delivery.connection()
                self._take(document)
        return self

    def _changes(self) -> dict[str, Any]:
        edited, saved = self._edited, self._saved
        changes: dict[str, Any] = {}
        if edited["description"] != saved["description"]:
            changes["description"] = check_description(edited["description"])
        metadata = check_metadata(edited["metadata"])
        if metadata != saved["metadata"]:
            changes["metadata"] = metadata
        for name, check in (("aliases", check_aliases), ("tags", check_tags)):
            # What somebody else added meanwhile stays.
            new = check(edited[name])
            added = [each for each in new if each not in saved[name]]
            removed = [each for each in saved[name] if each not in new]
            changes |= {f"add_{name}": added} if added else {}
            changes |= {f"remove_{name}": removed} if removed else {}
        if self._ttl_change is not None:
            ttl = self._ttl_change[0]
            changes["ttl_s"] = "inherit" if ttl is ArtifactTTL.INHERIT else ttl
        return changes

    def delete(self, delete_aliases: bool = False) -> None:
        """Delete the version; of a link, the link only. Its files go a day later, unless others have them.

        Args:
            delete_aliases: Also when it has aliases or links.

        Raises:
            CommError: The server can't be reached, or refused: it has aliases or links.
        """
        document = self._version("delete")
        if document["is_link"]:
            self.unlink()
            return
        self._server().delete(self._route(), {"force": delete_aliases})
        self._stored_state = "DELETED"

    def unlink(self) -> None:
        """Take the version out of the collection that it is linked into.

        Raises:
            ValueError: It was logged there.
        """
        document = self._version("unlink")
        if not document["is_link"]:
            raise ValueError(
                f"Artifact {self.qualified_name!r} is not a linked artifact and cannot be unlinked."
            )
        self._server().delete(self._route("links", document["collection_id"]))

    @property
    def linked_artifacts(self) -> list[Self]:
        """The version as each collection shows it that it is linked into."""
        self._version("linked_artifacts")
        make = type(self)._of_server  # noqa: SLF001  # its own kind
        return [make(self._server(), each) for each in self._ask("links")["artifacts"]]

    @property
    def source_artifact(self) -> Self:
        """The version as the collection shows it that it was logged into."""
        document = self._version("source_artifact")
        if not document["is_link"]:
            return self
        return type(self)._of_server(self._server(), self._ask()["artifact"])  # noqa: SLF001  # its own kind

    def logged_by(self) -> Run | None:
        """Return the run that logged it; None where none did, or it is gone."""
        found = self._version("logged_by")["logged_by"]
        return None if found is None else self._run(found)

    def used_by(self) -> list[Run]:
        """Return the runs that use it, each once."""
        self._version("used_by")
        runs = Pages(
            self._server(),
            self._route("used-by"),
            {},
            "runs",
            self._run,
            per_page=1000,
            once=operator.itemgetter("entity", "project", "run_id"),
        )
        return [run for run in runs if run is not None]

    def files(self, names: list[str] | None = None, per_page: int = 50) -> ArtifactFiles:
        """Return the version's files as a lazy list.

        Args:
            names: Only these.
            per_page: Files fetched at a time.
        """
        self._version("files")
        return ArtifactFiles(self, names, per_page)  # type: ignore[arg-type]  # it is an Artifact

    def _run(self, said: dict[str, Any]) -> Run | None:
        from runfold.api.run import Run

        path = route("runs", said["entity"], said["project"], said["run_id"])
        try:
            return Run(self._server(), self._server().get(path))
        except RunNotFoundError:
            return None
