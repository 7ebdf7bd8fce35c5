"""ObjectsPart: media and tables as things in an artifact, beside its files. Part of Artifact."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

from runfold.artifacts.contents_part import ContentsPart

if TYPE_CHECKING:
    from runfold.artifacts.entries import ArtifactManifestEntry


class ObjectsPart(ContentsPart):
    """`add` and `get`: what a program takes out is what it put in."""

    @functools.cached_property
    def _added_objects(self) -> dict[str, Any]:
        """What was added to this draft, by the name of its file: links between tables go by names."""
        return {}

    def add(self, obj: Any, name: str, overwrite: bool = False) -> ArtifactManifestEntry:
        """Add a medium or a table: its files, and a JSON file `<name>.<type>.json` that `get` reads.

        Args:
            obj: A Table, JoinedTable, PartitionedTable, Image, Audio, Video, Html, Object3D, Molecule or
                Classes.
            name: In the artifact.
            overwrite: Replace one of this name, which otherwise stays, with a warning if it is another one.

        Raises:
            ArtifactFinalizedError: It was logged.
            TypeError: It is something else, or a cell of a table has no form in JSON.
        """
        from runfold.media.artifact_objects import add_to

        self._contents("add")
        entry: ArtifactManifestEntry = add_to(self, obj, name, overwrite=overwrite)
        return entry

    def get(self, name: str) -> Any:
        """Return the medium or table that was added under a name; None if there is none. Downloads its files.

        Raises:
            ArtifactNotLoggedError: It is no version yet. CommError: The server can't be reached.
        """
        from runfold.media.artifact_objects import read_from

        self._version("get")
        return read_from(self, name)

    def __getitem__(self, name: str) -> Any:
        return self.get(name)

    def __setitem__(self, name: str, item: Any) -> None:
        self.add(item, name)
