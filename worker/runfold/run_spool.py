"""RunSpool: the spool of a run in this process, its agent, and the wait for its delivery.

In: the run's membership. Out: an open spool for the recorder; a new one in each process that says something.
"""

from __future__ import annotations

import datetime
import os
import time
from collections.abc import Callable
from dataclasses import replace
from errno import EIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runfold import stack_signal, terminal
from runfold.acknowledgement import acked_seq, dies_with_the_container, knows_a_server, wait_for_ack
from runfold.agent_keeper import agent_keeper
from runfold.family_spools import enrol
from runfold.family_step import FILE_NAME, FamilyStep
from runfold.joining import Membership, as_child
from runfold.late_spool import LateSpool
from runfold.protocol.errors import ProtocolError
from runfold.protocol.identity import Identity
from runfold.recorder import Recorder
from runfold.recorder_spool import Spool
from runfold.settings import Settings, process_environment

if TYPE_CHECKING:
    from runfold.spool.writer import SpoolWriter

#: Longest extra wait where the spool would be lost with the container.
_LAST_CHANCE_S = 600.0


class LostSpool:
    """Stands in where no spool can be made: everything is counted as lost, and training goes on."""

    def __init__(self) -> None:
        self.last_seq = 0

    @property
    def dropped_count(self) -> int:
        """All of it."""
        return self.last_seq

    def append_row(self, schema: Any, flags: int, step: int, values: Any) -> bool:  # noqa: ARG002  # same shape
        """Count."""
        self.last_seq += 1
        return False

    def append_record(self, kind: int, payload: bytes, flags: int = 0) -> bool:  # noqa: ARG002  # same shape
        """Count."""
        self.last_seq += 1
        return False

    def close(self, *, final: bool = True) -> None:
        """Nothing to close."""

    def close_with_status(self, payload: bytes, at_last: Callable[[int], bool]) -> bool:  # noqa: ARG002  # same shape
        """Nothing to close."""
        return True


class RunSpool:
    """Opens the spool of a process when it first says something, and sees it delivered. Not thread-safe."""

    def __init__(
        self,
        membership: Membership,
        settings: Settings,
        *,
        is_child: bool = False,
        rank_before: str | None = None,
        parent: str | None = None,
        family: Path | None = None,
    ) -> None:
        """Take the membership of the process that made the run; `is_child` when that was another one, whose
        writer is `parent`.

        Args:
            family: The spool of the process that made the run, where its children are listed.
        """
        self.identity = membership.identity
        self._membership = membership
        self._settings = settings
        self._owner_pid = None if is_child else os.getpid()
        self._parent = parent
        self._rank_before = process_environment().get("RANK") if not is_child else rank_before
        self.directory: Path | None = None
        #: Where the processes are listed that log into the run together; None before there are children.
        self.family = family
        #: Called with the identity when a spool was opened.
        self.on_open: Callable[[Identity], None] = _nothing

    def open(self, start_step: int) -> Spool:
        """Open this process's spool and call for an agent. Never raises."""
        identity = self._membership.identity
        if self._owner_pid != os.getpid():
            identity = as_child(
                identity,
                process_environment(),
                self._settings,
                rank_before=self._rank_before,
                forked_from=self.writer_id,
            )
            identity = replace(identity, start_step=start_step)
        self.identity = identity
        try:
            spool: Spool = self._make(identity)
        except (OSError, ProtocolError) as error:
            terminal.warn(f"run {identity.run_id}: nothing of it can be kept: {error}. Training goes on")
            self.directory = None
            spool = LostSpool() if isinstance(error, ProtocolError) else self._late(identity, error)
        self.call_agent()
        if not self._membership.is_offline:
            agent_keeper.add(self)
        self.on_open(identity)
        return spool

    def leave(self) -> None:
        """The run is over in this process."""
        agent_keeper.remove(self)

    def _make(self, identity: Identity) -> SpoolWriter:
        from runfold.spool.writer import SpoolWriter

        node = self._membership.node
        writer = SpoolWriter.create(
            node.spool_root, node.target, {**identity.to_map(), "tags": list(identity.tags)}
        )
        self.directory = writer.directory
        self._enrol(writer.directory)
        if identity.stack_signum is not None:
            stack_signal.register(identity.stack_signum, writer.directory)
        return writer

    def _enrol(self, directory: Path) -> None:
        if self.family is None or self._owner_pid == os.getpid():
            return
        try:
            enrol(self.family, directory)
        except OSError:  # the maker's spool was delivered and removed, or there is no space
            self.family = None

    def _late(self, identity: Identity, reason: OSError) -> LateSpool:
        """Return what makes the spool when there is space again, and declares what was lost until then."""

        def make(lost_count: int) -> Spool | None:
            if self._owner_pid not in (None, os.getpid()):
                return None  # a fork's child opens its own
            try:
                writer = self._make(identity)
            except (OSError, ProtocolError):
                return None
            if lost_count:
                writer.declare_lost(lost_count, reason if reason.errno else OSError(EIO, str(reason)))
            self.call_agent()
            return writer

        return LateSpool(make)

    @property
    def writer_id(self) -> str | None:
        """Id of the writer that spoke last here: in a child that has said nothing yet, its parent's."""
        return self.directory.name if self.directory is not None else self._parent

    def call_agent(self, *, is_last: bool = False) -> bool:
        """Make sure that an agent works, and return whether one did already; offline nobody is called."""
        if self._membership.is_offline or self.directory is None:
            return True
        from runfold.node.start import ensure_agent

        return ensure_agent(self._membership.node, is_last=is_last)

    def acked_seq(self) -> int:
        """The highest seq that a server stored durably."""
        return acked_seq(self.directory) if self.directory is not None else 0

    def acked_at(self) -> datetime.datetime | None:
        """When the header was last changed by the agent, None when that can't be seen."""
        from runfold.spool.format import HEADER_NAME

        try:
            found = (self.directory / HEADER_NAME).stat() if self.directory is not None else None
        except OSError:
            found = None
        return datetime.datetime.fromtimestamp(found.st_mtime, tz=datetime.UTC) if found is not None else None

    def wait(self, seq: int, *, quiet: bool, since_mono_s: float) -> bool:
        """Wait until everything up to `seq` is stored; say what goes on if it isn't. False: not in time.

        Args:
            since_mono_s: When the wait began, perhaps for another run: many that end together wait together.
        """
        directory, node = self.directory, self._membership.node
        quiet = quiet or self._owner_pid != os.getpid()  # a child is one of many: the run's maker speaks
        run_id = self.identity.run_id
        if directory is None or self._membership.is_offline:
            if directory is not None and not quiet:
                terminal.info(f"run {run_id} is kept in {directory}; `runfold sync` delivers it")
            return directory is not None
        if not knows_a_server(node):
            if not quiet:
                terminal.info(
                    f"no server is running; run {run_id} is kept in {directory} and delivered when one starts"
                )
            return False
        timeout_s = self._settings.finish_timeout
        self.call_agent()
        if self._wait_for_ack(directory, seq, timeout_s, since_mono_s):
            return True
        left = seq - self.acked_seq()
        # Who set a limit knows why; only the default gives way to the risk of losing the folder.
        is_default = "finish_timeout" not in self._settings.said
        if is_default and dies_with_the_container(directory, process_environment()):
            terminal.warn(
                f"run {run_id}: {left:,} records are not stored yet, and their folder {directory} dies with "
                f"this container: waiting up to {_LAST_CHANCE_S:.0f} s more. "
                "Mount a volume and set RUNFOLD_DIR to avoid it"
            )
            if self._wait_for_ack(directory, seq, timeout_s + _LAST_CHANCE_S, since_mono_s):
                return True
        self.call_agent(is_last=True)
        if not quiet:
            goes_on = "the node agent goes on" if node.mode == "process" else "the next agent goes on"
            terminal.info(
                f"run {run_id}: {left:,} records are not stored after {timeout_s:.0f} s; "
                f"{goes_on} delivering them from {directory}"
            )
        return False

    def wait_for_console(self, directory: Path, seq: int, *, since_mono_s: float) -> None:
        """Wait, for what is left of the time, until the lines in a console's spool are stored too."""
        if not self._membership.is_offline and knows_a_server(self._membership.node):
            self._wait_for_ack(directory, seq, self._settings.finish_timeout, since_mono_s)

    def _wait_for_ack(self, directory: Path, seq: int, timeout_s: float, since_mono_s: float) -> bool:
        left_s = since_mono_s + timeout_s - time.monotonic()
        return wait_for_ack(
            directory, seq, timeout_s=left_s, call_agent=self.call_agent, run_id=self.identity.run_id
        )


def share_step(recorder: Recorder, run_spool: RunSpool) -> Path | None:
    """Have a step counter that children can join; return its file. None where ranks count each their own."""
    directory = run_spool.directory
    if recorder.family is None and directory is not None and run_spool.identity.mode != "shared":
        try:
            recorder.share_step(FamilyStep(directory / FILE_NAME, create=True))
        except OSError:
            return None  # children then count their own
        run_spool.family = directory
    return recorder.family.path if recorder.family is not None else None


def _nothing(_: Identity) -> None:
    return
