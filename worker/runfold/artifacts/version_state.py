"""VersionState: a draft, a draft on its way, or a version. The base of what Artifact is made of."""

from __future__ import annotations

import copy
import secrets
from typing import Any, Final, Self

from runfold.api.connection import Connection
from runfold.api.paths import route
from runfold.artifacts.delivery import Delivery, Document
from runfold.artifacts.draft import Draft
from runfold.artifacts.errors import ArtifactFinalizedError, ArtifactNotLoggedError
from runfold.artifacts.ttl import ArtifactTTL
from runfold.protocol.manifest import Manifest

#: What people change of a version in place, until save() tells the server.
EDITABLE: Final = ("description", "metadata", "aliases", "tags")


class VersionState:
    """What an artifact is, and how far it is.

    Draft: `_document` is None, files may be added until it is logged. Logged: the contents are fixed, the
    version may not be there yet. Version: `_document` is what the server said.
    """

    _draft: Draft | None = None
    _document: Document | None = None
    _connection: Connection | None = None
    _delivery: Delivery | None = None
    #: No more files: it was logged, or finalize() said so.
    _is_final: bool = False
    _known_manifest: Manifest | None = None
    _ttl_change: Any = None
    #: Why it could not be kept when it was logged; None: it was.
    _lost: str | None = None
    _was_logged: bool = False
    #: Told again where W&B tells it; the server knows where it keeps things.
    _storage_region: str | None = None
    _client_id: str = ""

    _base_name: str
    _type: str
    #: As people see and change it, and as the server has it: the difference is what save() tells.
    _edited: dict[str, Any]
    _saved: dict[str, Any]

    @classmethod
    def _of_server(cls, connection: Connection, document: Document) -> Self:
        """Return the version that the server describes."""
        made = cls.__new__(cls)
        made._begin(connection, document)  # noqa: SLF001  # its own kind
        return made

    def _begin(self, connection: Connection, document: Document) -> None:
        self._connection = connection
        self._base_name, self._type = document["collection"], document["type"]
        self._take(document)

    def _take(self, document: Document) -> None:
        """This is a version now, or what is known of it is newer."""
        self._document = document
        self._is_final = True
        kept = document["content_digest"]
        if self._draft is not None and self._draft.manifest.sums.content_digest != kept:
            self._draft = None  # this was a part of it
        self._edited = {name: document[name] for name in EDITABLE}
        self._saved = copy.deepcopy(self._edited)
        self._ttl_change = None

    def _begin_delivery(self, delivery: Delivery) -> None:
        """It was logged: what becomes of it now counts, not what it was before."""
        self._delivery, self._document, self._lost = delivery, None, None

    def _lose(self, reason: str) -> None:
        """It was logged, and could not be kept."""
        self._lost = reason

    def _next_client_id(self) -> str:
        """Return the id for the next attempt at logging it: its own for the first."""
        found = self._client_id if not self._was_logged else secrets.token_hex(16)
        self._was_logged = True
        return found

    def _refresh(self) -> Document | None:
        """Return the document if it is a version by now. ValueError if it will never be one."""
        if self._lost is not None:
            raise ValueError(f"the artifact could not be kept: {self._lost}")
        if self._document is None and self._delivery is not None:
            document = self._delivery.look()
            if document is not None:
                self._connection = self._delivery.connection()
                self._take(document)
        return self._document

    def _version(self, name: str) -> Document:
        """Return the document, for the attribute or method `name`.

        Raises:
            ArtifactNotLoggedError: It is no version yet.
        """
        document = self._refresh()
        if document is None:
            raise ArtifactNotLoggedError(f"Artifact.{name}", self)
        return document

    def _contents(self, name: str) -> Draft:
        """Return the draft, for the method `name` that changes it.

        Raises:
            ArtifactFinalizedError: It was logged.
        """
        if self._is_final or self._draft is None:
            raise ArtifactFinalizedError(f"Artifact.{name}", self)
        return self._draft

    def _server(self) -> Connection:
        assert self._connection is not None, "asked of versions only, which came from a server"
        return self._connection

    def _ask(self, *rest: str) -> Any:
        """Return what the server says below this version's address."""
        return self._server().get(self._route(*rest))

    def _route(self, *rest: str) -> str:
        assert self._document is not None, "asked of versions only"
        return route("artifacts", self._document["id"], *rest)

    @property
    def _ttl(self) -> Any:
        """Seconds, None for ever, or INHERIT."""
        if self._ttl_change is not None:
            return self._ttl_change[0]
        if self._document is None or self._document["ttl_is_inherited"]:
            return ArtifactTTL.INHERIT
        return self._document["ttl_s"]
