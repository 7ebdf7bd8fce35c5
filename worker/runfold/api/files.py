"""`File`, `Files`: files of a stored run, listed, downloaded, deleted, under W&B's names."""

from __future__ import annotations

import datetime
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TextIO

from runfold.api.connection import Connection, Parameters
from runfold.api.errors import RequestError
from runfold.api.pages import Pages
from runfold.api.said import Said
from runfold.protocol.file_names import FileNameError
from runfold.safe_path import safe_path


class File:
    """One file of a run, as of listing."""

    name = Said[str]('Within the run\'s files, parts separated by "/".')
    sha256 = Said["str | None"]("Of its content, hex; None: it was saved and has not arrived.")
    mimetype = Said["str | None"]("What kind of file it is, by its name.")
    policy = Said[str]('"now", "end" or "live", as it was saved.')
    error = Said["str | None"](
        "Why what was saved last under this name will never come; None: nothing is lost."
    )
    what = Said[str]('"file", or "media" of a row.')
    writer = Said["str | None"]("Id of the writer that saved it.")

    def __init__(self, connection: Connection, run_route: str, document: dict[str, Any]) -> None:
        self._connection = connection
        self._run_route = run_route
        self._document = document

    def __repr__(self) -> str:
        return f"<File {self.name} ({self.mimetype or 'unknown'}) {self.size} bytes>"

    @property
    def size(self) -> int:
        """Bytes; 0 while that is not known."""
        return self._document["size"] or 0

    @property
    def id(self) -> str:
        """The same as `name`: a run has one file of a name."""
        return str(self._document["name"])

    @property
    def md5(self) -> str:
        """Of its content, base64; "0" for a file that has not arrived, as W&B tells it."""
        return self._document["md5"] or "0"

    @property
    def updated_at(self) -> str | None:
        """When it was stored, ISO 8601 in UTC."""
        at = self._document["stored_unix_s"]
        return None if at is None else datetime.datetime.fromtimestamp(at, tz=datetime.UTC).isoformat()

    @property
    def url(self) -> str:
        """Where its content is; asks for the API key, if the server does."""
        from urllib.parse import urlencode

        query = urlencode({"name": self._document["name"]})
        return f"{self._connection.url}/api/v1{self._run_route}/files/content?{query}"

    @property
    def direct_url(self) -> str:
        """The same as `url`."""
        return self.url

    def download(
        self,
        root: str | os.PathLike[str] = ".",
        replace: bool = False,
        exist_ok: bool = False,
        api: object = None,
    ) -> TextIO:
        """Download it below `root`, folders of its name kept, and return it open to read.

        Args:
            replace: Write over what is there.
            exist_ok: Leave what is there, and return that.
            api: Accepted for W&B's scripts; the server is the one that the file came from.

        Raises:
            ValueError: There is a file already, or no file can be written under this name; or this one was
                saved and has not arrived.
            CommError: The server can't be reached, or sends something else than was stored.
        """
        del api
        from runfold.downloads import Wanted, download

        folder = Path(root)
        try:
            path = safe_path(folder.absolute(), self.name)
        except FileNameError as error:
            raise ValueError(str(error)) from error
        if path.exists() and not replace:
            if exist_ok:
                return path.open()
            raise ValueError(
                f"{path} exists already: pass replace=True to write over it, or exist_ok=True to leave it"
            )
        if self.sha256 is None:
            why = "has not arrived at the server" if self.error is None else f"will never come: {self.error}"
            raise ValueError(f"{self.name} was saved, and {why}")
        if path.is_symlink():  # what save() left in the run's folder: the file behind it is not to be touched
            path.unlink()
        download(self._connection, [Wanted(self.name, self.sha256, self.size)], folder, label=self.name)
        return path.open()

    def delete(self) -> None:
        """Delete it from the server."""
        self._connection.delete(f"{self._run_route}/files", {"name": self.name})


class Files(Pages[File]):
    """A lazy list: pages are fetched as they are reached. Not thread-safe."""

    def __init__(
        self,
        connection: Connection,
        run_route: str,
        *,
        names: Sequence[str] | None,
        pattern: str | None,
        per_page: int,
        state: str,
    ) -> None:
        if names is not None and pattern is not None:
            raise RequestError("names and pattern exclude each other", field="pattern")
        parameters: Parameters = {
            "names": None if names is None else [*names],
            "pattern": pattern,
            "state": state,
        }
        super().__init__(
            connection,
            f"{run_route}/files",
            parameters,
            "files",
            lambda each: File(connection, run_route, each),
            per_page=per_page,
        )
        self._is_whole = names is not None and not names  # no names would be asked as all names
        self._run_route = run_route

    def __repr__(self) -> str:
        return f"<Files of {self._run_route.removeprefix('/runs/')}>"
