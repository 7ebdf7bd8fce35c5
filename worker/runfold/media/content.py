"""Content: the bytes of a media value. Captured when the value is made, in a file when somebody needs them.

In: pixels, samples, text, or a file of the user. Out: a file with its size and SHA-256.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runfold.media.encoder import encoder
from runfold.media.temporary import temporary

#: Pixels, samples or text of one value that wait to be encoded. A file of the user may be of any size.
MAX_CAPTURED_BYTES = 1 << 30
_CHUNK_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Encoded:
    """A file that holds a media value, and that nobody changes."""

    path: Path
    sha256: str
    size: int


class Content:
    """What a media value holds; copies of the value share it. Thread-safe."""

    def __init__(self, suffix: str, *, is_ours: bool) -> None:
        """Use `captured` or `of_file`."""
        #: Of the file, with its dot: ".png", ".pts.json".
        self.suffix = suffix
        #: What was captured, as a function that writes it to a path; let go of once it is written.
        self._write: Callable[[Path], None] | None = None
        #: A file of the user; None when it is all ours.
        self.source: Path | None = None
        self._is_ours = is_ours
        self._path: Path | None = None
        self._encoded: Encoded | None = None

    @classmethod
    def captured(cls, suffix: str, write: Callable[[Path], None], held_bytes: int) -> Content:
        """Return content that the encoder's thread will write; here and now when too much waits for it.

        Args:
            held_bytes: Memory that `write` holds.

        Raises:
            ValueError: It is too large.
        """
        if held_bytes > MAX_CAPTURED_BYTES:
            raise ValueError(
                f"a media value of {held_bytes:,} bytes: at most {MAX_CAPTURED_BYTES:,} are captured. "
                "Write it to a file, and log its path"
            )
        with contextlib.suppress(OSError):  # a full disk is told of when it is full still
            temporary.prepare()
        content = cls(suffix, is_ours=True)
        content._write = write
        waiting = weakref.ref(content)
        encoder.put(lambda: _encode(waiting), held_bytes)
        encoder.relieve()
        return content

    @classmethod
    def of_text(cls, suffix: str, text: str) -> Content:
        """Return content that is text, in UTF-8. ValueError: it is too large, or no Unicode text."""
        data = text.encode()
        return cls.captured(suffix, lambda path: _write_bytes(path, data), len(data))

    @classmethod
    def of_bytes(cls, suffix: str, data: bytes) -> Content:
        """Return content that is given as it is. ValueError: it is too large."""
        return cls.captured(suffix, lambda path: _write_bytes(path, data), len(data))

    @classmethod
    def of_file(cls, path: Path, suffix: str) -> Content:
        """Return a file of the user; it is read when the value is logged.

        Raises:
            OSError: It is not there, is no file, or may not be read.
        """
        if not stat.S_ISREG(path.stat().st_mode) and not path.is_dir():
            raise OSError(f"{path} is no regular file")  # opening a pipe would wait for who writes to it
        path.open("rb").close()
        content = cls(suffix, is_ours=False)
        content.source = path.absolute()
        return content

    def __reduce__(self) -> Any:
        """Take the bytes along: another process, on another machine, has not the file.

        Raises:
            ValueError: They are too many.
        """
        encoded = self.encoded()
        if encoded.size > MAX_CAPTURED_BYTES:
            raise ValueError(
                f"a media value of {encoded.size:,} bytes: at most {MAX_CAPTURED_BYTES:,} are pickled"
            )
        return Content.of_bytes, (self.suffix, encoded.path.read_bytes())

    def __deepcopy__(self, memo: dict[int, Any]) -> Content:
        return self  # nobody changes it

    def hold(self) -> None:
        """Make sure that nobody else can change or remove it any more. log() does so, in the caller's thread.

        Raises:
            OSError: The user's file has vanished, or can't be copied.
        """
        if self._write is not None:
            return
        path = self._path
        if path is not None and temporary.owns(path):
            return
        # A file of the user, or of the process that this one was forked from.
        source = self.source if not self._is_ours else path
        assert source is not None, "content is captured, or a file"
        held = temporary.new_path(self.suffix)
        if self._is_ours:
            link_or_copy(source, held)
        else:
            copy(source, held)
        self._keep(held)
        self._encoded = None

    def encoded(self) -> Encoded:
        """Return the file; make it in this thread if nobody has done so yet.

        Raises:
            OSError: It could not be written.
            Exception: The library that encodes it refused.
        """
        with encoder.turn:
            if self._encoded is None:
                if self._path is None and self._write is None:
                    self.hold()
                if self._write is not None:
                    path = temporary.new_path(self.suffix)
                    try:
                        self._write(path)
                    except BaseException:
                        path.unlink(missing_ok=True)
                        raise
                    self._keep(path)
                    self._write = None
                assert self._path is not None, "it is held now"
                self._encoded = Encoded(self._path, *_digest(self._path))
            return self._encoded

    def _keep(self, path: Path) -> None:
        self._path = path
        # Not at exit: runs say their last media then, and the whole folder goes afterwards.
        weakref.finalize(self, _forget, path, os.getpid()).atexit = False


def link_or_copy(source: Path, target: Path) -> None:
    """Have a file that nobody changes a second time; OSError if that can't be."""
    try:
        os.link(source, target)
    except OSError:
        copy(source, target)


def copy(source: Path, target: Path) -> None:
    """Copy a file's bytes; OSError if that can't be."""
    import shutil

    try:
        shutil.copyfile(source, target)
    except BaseException:
        target.unlink(missing_ok=True)
        raise


def _encode(waiting: weakref.ref[Content]) -> None:
    content = waiting()
    if content is not None:
        with contextlib.suppress(Exception):  # told where it is used
            content.encoded()


def _write_bytes(path: Path, data: bytes) -> None:
    path.write_bytes(data)


def _digest(path: Path) -> tuple[str, int]:
    found, size = hashlib.sha256(), 0
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            found.update(chunk)
            size += len(chunk)
    return found.hexdigest(), size


def _forget(path: Path, pid: int) -> None:
    if os.getpid() == pid:
        path.unlink(missing_ok=True)
