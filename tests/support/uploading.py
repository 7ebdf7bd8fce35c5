"""What a trainer uploads under chaos: files and artifacts whose content is a function of (writer, number).

A ledger outside of the system under test has a line before each call and one after it returned; kill -9 loses
none of them, as each is one write.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

import runfold

#: From nothing to several pieces of an upload.
SIZES = (17, 0, 5_000, 250_000, 1_100_000)
#: Each its own name, one name again and again, an artifact of its own, one that all writers make versions of.
KINDS = ("file", "again", "own", "common", "file")
LOGGED = ("own", "common")


@dataclass(frozen=True, slots=True)
class Upload:
    """One call of a writer."""

    writer: int
    number: int
    kind: str

    @property
    def content(self) -> bytes:
        """The bytes of its file, or of the first file of its artifact."""
        size = SIZES[(self.number + self.writer) % len(SIZES)]
        return (f"{self.writer}-{self.number}-{self.kind}-".encode() * (size // 4 + 1))[:size]

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.content).hexdigest()

    @property
    def name(self) -> str:
        """Of the file in its run; of the collection."""
        if self.kind == "file":
            return f"w{self.writer}/f{self.number}.bin"
        return {"again": f"again-{self.writer}.bin", "own": f"own-{self.writer}", "common": "common"}[
            self.kind
        ]


class Uploader:
    """Does the calls of one writer, one after another."""

    def __init__(self, run: runfold.Run, writer: int, folder: Path, ledger: Path) -> None:
        self._run = run
        self._writer = writer
        self._folder = folder
        self._ledger = os.open(ledger, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        self._number = 0

    def turn(self) -> None:
        """Do the next one."""
        upload = Upload(self._writer, self._number, KINDS[self._number % len(KINDS)])
        self._number += 1
        self._note("began", upload)
        if upload.kind in LOGGED:
            artifact = runfold.Artifact(
                upload.name, "dataset", metadata={"writer": upload.writer, "number": upload.number}
            )
            for name, content in (("data.bin", upload.content), ("same.txt", b"in every version")):
                with artifact.new_file(name, mode="wb") as file:
                    file.write(content)
            with artifact.new_file("who.txt") as file:
                file.write(f"{upload.writer} {upload.number}")
            self._run.log_artifact(artifact)
        else:
            path = self._folder / upload.name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(upload.content)
            self._run.save(path, self._folder, policy="now")
        self._note("done", upload)

    def _note(self, word: str, upload: Upload) -> None:
        os.write(self._ledger, f"{word} {upload.writer} {upload.number} {upload.kind}\n".encode())


def read_ledger(path: Path) -> tuple[list[Upload], list[Upload]]:
    """Return what was begun and what of it returned."""
    found: dict[str, list[Upload]] = {"began": [], "done": []}
    for line in path.read_text().splitlines() if path.exists() else []:
        word, writer, number, kind = line.split()
        found[word].append(Upload(int(writer), int(number), kind))
    return found["began"], found["done"]
