"""RunDocument: a run's address on its server, and what of it was loaded. The base of what Run is made of."""

from __future__ import annotations

from typing import Any

from runfold.api.connection import Connection
from runfold.api.paths import route


class RunDocument:
    """What every part of a stored run asks the server through."""

    def __init__(self, connection: Connection, document: dict[str, Any]) -> None:
        self._connection = connection
        self._document = document
        self._entity: str = document["entity"]
        self._project: str = document["project"]
        self._id: str = document["id"]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, RunDocument) and self._route() == other._route()

    def __hash__(self) -> int:
        return hash(self._route())

    def load(self, force: bool = False) -> dict[str, Any]:
        """Return the run's document, read again when `force`."""
        if force or "summary" not in self._document:
            self._document = self._connection.get(self._route(), {"include": ["config", "summary"]})
        return self._document

    def to_dict(self) -> dict[str, Any]:
        """Return what is loaded of the run, as the HTTP API said it."""
        return dict(self._document)

    def _route(self, *rest: str) -> str:
        return route("runs", self._entity, self._project, self._id, *rest)

    def _loaded(self, part: str) -> Any:
        """Return a part of the document that lists leave out."""
        if part == "keys" and part not in self._document:
            self._document["keys"] = self._all_keys()
        elif part not in self._document:
            self.load()
        return self._document[part]

    def _all_keys(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        cursor = None
        while True:
            answer = self._connection.get(self._route("keys"), {"cursor": cursor})
            found.extend(answer["keys"])
            cursor = answer["next_cursor"]
            if cursor is None:
                return found
