"""RunStoredFiles: the files of a stored run. Part of Run."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from runfold.api.errors import NotFoundError
from runfold.api.files import File, Files
from runfold.api.run_document import RunDocument


class RunStoredFiles(RunDocument):
    """Under W&B's names."""

    def files(
        self,
        names: Sequence[str] | None = None,
        pattern: str | None = None,
        per_page: int = 50,
        *,
        state: str = "stored",
    ) -> Files:
        """Return the run's files, by name, as a lazy list.

        Args:
            names: Only these.
            pattern: Only those of such names: % stands for any characters, _ for one. Not with `names`.
            per_page: Files fetched at a time, at most 1000.
            state: "stored"; "pending": saved by a process, and still to come; "failed": what was saved last
                will never come, for the reason in `File.error`.

        Raises:
            RequestError: (a ValueError) Both `names` and `pattern`, or a wrong number of files a page.
        """
        return Files(
            self._connection, self._route(), names=names, pattern=pattern, per_page=per_page, state=state
        )

    def file(self, name: str) -> File:
        """Return one file.

        Raises:
            NotFoundError: (a CommError, ValueError and LookupError) The run has no such file.
        """
        for found in self.files(names=[name]):
            return found
        raise NotFoundError(f"{'/'.join((self._entity, self._project, self._id))} has no file {name!r}")

    def upload_file(self, path: str | os.PathLike[str], root: str | os.PathLike[str] = ".") -> File:
        """Upload a file, whatever state the run is in, and return it. Goes on where it broke off.

        Args:
            path: What to upload.
            root: The file's name is the path from here.

        Raises:
            FileNotFoundError: There is no such file.
            ValueError: It lies outside of `root`, or changed all the time while it was read.
            CommError: The server can't be reached, or refuses it.
        """
        from runfold.uploads.direct import upload_now

        name = os.path.relpath(path, root).replace(os.sep, "/")
        upload_now(self._connection, (self._entity, self._project, self._id), name, Path(path))
        return self.file(name)
