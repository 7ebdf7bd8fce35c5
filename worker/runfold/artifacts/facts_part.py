"""FactsPart: what an artifact is called and described by, and changing that. Part of Artifact."""

from __future__ import annotations

import datetime
from typing import TYPE_CHECKING, Any

from runfold.artifacts.entries import ArtifactDigestAlgorithm
from runfold.artifacts.errors import ArtifactNotLoggedError
from runfold.artifacts.labels import check_aliases, check_description, check_metadata, check_tags
from runfold.artifacts.ttl import ArtifactTTL, seconds_of
from runfold.artifacts.version_state import VersionState

if TYPE_CHECKING:
    from runfold.artifacts.collections import ArtifactCollection


class FactsPart(VersionState):
    """Properties under W&B's names. Those that only a version has raise ArtifactNotLoggedError before."""

    _distributed_id: str | None = None
    _use_as: str | None = None
    _is_incremental: bool = False

    @property
    def id(self) -> str | None:
        """Id of the version on its server; None for a draft."""
        document = self._refresh()
        return None if document is None else str(document["id"])

    @property
    def client_id(self) -> str:
        """Id that the draft was given; of a version, that of the draft that it was made from."""
        return self._key

    @property
    def _key(self) -> str:
        if self._document is not None:
            return str(self._document["client_id"])
        return self._client_id

    @property
    def type(self) -> str:
        """What kind of thing it is: "dataset", "model", ..."""
        return self._type

    @property
    def name(self) -> str:
        """Name with the version, "model:v3"; of a draft the name alone."""
        document = self._document
        return self._base_name if document is None else f"{document['collection']}:{document['version']}"

    @property
    def qualified_name(self) -> str:
        """ "entity/project/name:version"."""
        return f"{self.entity}/{self.project}/{self.name}"

    @property
    def version(self) -> str:
        """ "v0", "v1", ..., as the collection counts that it was asked for in."""
        return str(self._version("version")["version"])

    @property
    def entity(self) -> str:
        """Whose collection it is."""
        return str(self._version("entity")["entity"])

    @property
    def project(self) -> str:
        """The project of the collection."""
        return str(self._version("project")["project"])

    @property
    def collection(self) -> ArtifactCollection:
        """The collection that it was asked for in."""
        return self._collection(self._version("collection")["collection_id"])

    # -- where it was logged, for a version that is linked --

    @property
    def is_link(self) -> bool:
        """Whether this is a version as a collection shows it that it is linked into. False for a draft."""
        document = self._refresh()
        return document is not None and bool(document["is_link"])

    @property
    def source_entity(self) -> str:
        """Whose collection it was logged into."""
        return str(self._source("source_entity")["entity"])

    @property
    def source_project(self) -> str:
        """The project that it was logged into."""
        return str(self._source("source_project")["project"])

    @property
    def source_name(self) -> str:
        """Name with the version, where it was logged; of a draft the name alone."""
        if self._refresh() is None:
            return self.name
        source = self._source("source_name")
        return f"{source['collection']}:{source['version']}"

    @property
    def source_qualified_name(self) -> str:
        """ "entity/project/name:version", where it was logged."""
        return f"{self.source_entity}/{self.source_project}/{self.source_name}"

    @property
    def source_version(self) -> str:
        """The version's number where it was logged."""
        return str(self._source("source_version")["version"])

    @property
    def source_collection(self) -> ArtifactCollection:
        """The collection that it was logged into."""
        return self._collection(self._source("source_collection")["collection_id"])

    # -- what may be changed: told to the server by save() --

    @property
    def description(self) -> str | None:
        """A text for people; may be set."""
        found = self._edited["description"]
        return None if found is None else str(found)

    @description.setter
    def description(self, description: str | None) -> None:
        self._edited["description"] = check_description(description)

    @property
    def metadata(self) -> dict[str, Any]:
        """What is known of it, as a dict of plain values; may be set, or changed in place."""
        found: dict[str, Any] = self._edited["metadata"]
        return found

    @metadata.setter
    def metadata(self, metadata: dict[str, Any]) -> None:
        self._edited["metadata"] = check_metadata(metadata)

    @property
    def aliases(self) -> list[str]:
        """Other names of the version in its collection; may be set, or changed in place."""
        self._version("aliases")
        found: list[str] = self._edited["aliases"]
        return found

    @aliases.setter
    def aliases(self, aliases: list[str]) -> None:
        self._version("aliases")
        self._edited["aliases"] = check_aliases(aliases)

    @property
    def tags(self) -> list[str]:
        """Words to find it by; may be set, or changed in place."""
        self._version("tags")
        found: list[str] = self._edited["tags"]
        return found

    @tags.setter
    def tags(self, tags: list[str]) -> None:
        self._version("tags")
        self._edited["tags"] = check_tags(tags)

    @property
    def ttl(self) -> datetime.timedelta | None:
        """How long it is kept, None for ever; may be set, also to ArtifactTTL.INHERIT.

        Raises:
            ArtifactNotLoggedError: It inherits it, and is a draft, or the server was not told yet.
        """
        found = self._ttl
        if found is ArtifactTTL.INHERIT:
            document = self._version("ttl")
            if self._ttl_change is not None:
                raise ArtifactNotLoggedError("Artifact.ttl", self)
            found = document["ttl_s"]
        return None if found is None else datetime.timedelta(seconds=found)

    @ttl.setter
    def ttl(self, ttl: datetime.timedelta | ArtifactTTL | None) -> None:
        if self._type == "wandb-history":
            raise ValueError("Cannot set artifact TTL for type wandb-history")
        if self._document is not None and self._document["is_link"]:
            raise ValueError(
                "Cannot set TTL for link artifact. "
                "Unlink the artifact first then set the TTL for the source artifact"
            )
        found = seconds_of(ttl)
        self._ttl_change = (ArtifactTTL.INHERIT if found == "inherit" else found,)

    # -- the rest --

    @property
    def state(self) -> str:
        """ "PENDING" before it is a version, then "COMMITTED", or "DELETED"."""
        return "PENDING" if self._refresh() is None else self._stored_state

    _stored_state: str = "COMMITTED"

    @property
    def distributed_id(self) -> str | None:
        """What the parts of one version share that several processes write; None: it is whole."""
        if self._document is not None and self._distributed_id is None:
            found = self._document.get("distributed_id")
            return None if found is None else str(found)
        return self._distributed_id

    @distributed_id.setter
    def distributed_id(self, distributed_id: str | None) -> None:
        self._distributed_id = distributed_id

    @property
    def digest_algorithm(self) -> ArtifactDigestAlgorithm:
        """What digests are computed by."""
        return ArtifactDigestAlgorithm.MANIFEST_MD5

    @property
    def incremental(self) -> bool:
        """Whether it was made to be added to the collection's latest version."""
        return self._is_incremental

    @property
    def use_as(self) -> str | None:
        """What the run said that it uses it for."""
        return self._use_as

    @property
    def incomplete(self) -> dict[str, Any] | None:
        """What is missing of a version that several processes wrote, as a dict; None: nothing is."""
        found: dict[str, Any] | None = self._version("incomplete").get("incomplete")
        return found

    @property
    def commit_hash(self) -> str:
        """What the content is known by in W&B: the digest here."""
        return str(self._version("commit_hash")["digest"])

    @property
    def created_at(self) -> str:
        """When the version was made, ISO 8601, UTC."""
        return iso_time(self._version("created_at")["created_unix_s"])

    @property
    def updated_at(self) -> str:
        """When it was changed last, ISO 8601, UTC."""
        return iso_time(self._version("updated_at")["updated_unix_s"])

    @property
    def linked_at(self) -> str | None:
        """When it was linked into the collection that shows it, ISO 8601, UTC; None: it was logged there."""
        at = self._version("linked_at")["linked_unix_s"]
        return None if at is None else iso_time(at)

    @property
    def history_step(self) -> int | None:
        """None: which step it was logged at is not kept."""
        self._version("history_step")
        return None

    @property
    def url(self) -> str:
        """Where its server tells about it."""
        self._version("url")
        return f"{self._server().url}/api/v1{self._route()}"

    def json_encode(self) -> dict[str, Any]:
        """Return what says which version it is, as plain values."""
        document = self._version("json_encode")
        version = {"id": self.id, "version": document["version"], "sequenceName": document["collection"]}
        return {"_type": "artifactVersion", "_version": "v0", "usedAs": self._use_as, **version}

    def _source(self, name: str) -> dict[str, Any]:
        found: dict[str, Any] = self._version(name)["source"]
        return found

    def _collection(self, collection_id: str) -> ArtifactCollection:
        from runfold.artifacts.collections import ArtifactCollection

        return ArtifactCollection._fetch(self._server(), collection_id)  # noqa: SLF001  # one family


def iso_time(unix_s: float) -> str:
    """Return a time as ISO 8601, UTC, to the second."""
    return datetime.datetime.fromtimestamp(unix_s, datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
