"""Programs in processes of their own, with and without capture, and what they left behind."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

from runfold.protocol.records import ConsoleRecord, RecordKind
from support.processes import environment, until
from support.spooled import Spooled, read_spool

INIT = "import os, sys, time, runfold\nrun = runfold.init(project='p', mode='offline')\n"


@dataclass
class Stage:
    """Starts programs whose runs are spooled below `folder`."""

    folder: Path
    is_silent: bool = True
    started: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def environment(self, console: str) -> dict[str, str]:
        mine = {"RUNFOLD_DIR": str(self.folder), "RUNFOLD_CONSOLE": console}
        return environment(mine | ({} if self.is_silent else {"RUNFOLD_SILENT": "0"}))

    def start(
        self, program: str, console: str = "auto", *, init: bool = True, **options: object
    ) -> subprocess.Popen[bytes]:
        options = {
            "stdin": subprocess.DEVNULL,
            "stdout": subprocess.PIPE,
            "stderr": subprocess.PIPE,
            **options,
        }
        process: subprocess.Popen[bytes] = subprocess.Popen(  # type: ignore[call-overload]
            [sys.executable, "-c", (INIT if init else "") + program], env=self.environment(console), **options
        )
        self.started.append(process)
        return process

    def run(self, program: str, console: str = "auto", **options: object) -> tuple[bytes, bytes, int]:
        process = self.start(program, console, **options)  # type: ignore[arg-type]
        output, errors = process.communicate(timeout=60)
        return output or b"", errors or b"", process.returncode

    def in_terminal(self, program: str, console: str = "auto") -> tuple[bytes, int]:
        """Run with all three streams on a pseudo-terminal of 24 rows and 91 columns."""
        import fcntl
        import struct
        import termios

        ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("4H", 24, 91, 0, 0))
        process = self.start(program, console, stdin=theirs, stdout=theirs, stderr=theirs)
        os.close(theirs)
        seen = b""
        while True:
            try:
                data = os.read(ours, 65536)
            except OSError:  # nobody has it open any more
                break
            if not data:
                break
            seen += data
        os.close(ours)
        return seen, process.wait(60)

    def spools(self) -> list[Spooled]:
        found = [read_spool(note.parent) for note in self.folder.glob("spool/*/[!.]*/writer.msgpack")]
        return sorted(found, key=lambda spooled: spooled.identity.started_unix_ns)

    def consoles(self) -> list[Spooled]:
        """The spools of consoles, once they have ended."""
        found = [spooled for spooled in self.spools() if spooled.identity.role == "console"]
        assert all(spooled.is_closed for spooled in found), "a console's spool ends"
        return found

    def lines(self, stream: str | None = None) -> list[str]:
        """What is kept of all consoles: complete lines in order."""

        def kept() -> list[str]:
            records: list[ConsoleRecord] = []
            for console in self.consoles():
                records += console.payloads(RecordKind.CONSOLE)
            return [
                line
                for record in records
                if not record.open_count and stream in (None, record.stream)
                for line in record.lines
            ]

        return until(kept)

    def close(self) -> None:
        for process in self.started:
            process.kill()
            process.communicate()


def tee_of(process: subprocess.Popen[bytes]) -> int:
    """Return the pid of the tee that was started for a process."""

    def find() -> int:
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                words = (folder / "cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            if (
                any(word.endswith(b"/console/tee.py") for word in words)
                and str(process.pid).encode() in words
            ):
                return int(folder.name)
        return 0

    return until(find)


def peak_bytes(pid: int) -> int:
    """Return the most memory that a process ever had, resident."""
    status = Path(f"/proc/{pid}/status").read_text()
    return 1024 * int(next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM")))
