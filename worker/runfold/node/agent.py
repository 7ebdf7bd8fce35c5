"""The agent's loop: watch, find, ship, heartbeat, tidy up, and end when nothing is left to do.

In: settings and the lock on a target directory. Out: everything in its spools, durably at the server.
One thread; every wait is bounded, so that a death is told within a moment and SIGTERM is heard. A second one
brings to disk what no server has stored (`disk_sync.py`), since that wait is not bounded.
"""

from __future__ import annotations

import logging
import os
import socket
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import cast

from runfold.protocol.streams import StopRequest
from runfold.uploads.duty import Uploads

from . import retention
from .deaths import Deaths
from .delivery import Delivery, Round
from .disk_sync import DiskSync
from .duties import Duties, Duty
from .failures import LinkError
from .heartbeat import Heartbeats, NodeIdentity, WriterNews
from .launchers import Launchers
from .lock import AgentLock
from .node_spool import NodeSpool
from .notices.detect import sources
from .notices.slurm import SlurmJobs, has_slurm
from .notices.watch import Notices
from .parents import Parents
from .processes import ProcessWatch, boot_id, pid_namespace
from .sampling.sampler import Sampler
from .settings import NodeSettings
from .shipper import Shipper, WindowLimits
from .stacks import StackDumps
from .stopping import Stopping
from .suspensions import Suspensions
from .uplink import Uplink
from .witness import Witness
from .writers import Writers

logger = logging.getLogger(__name__)

#: Rows wait this long for company: little while a look at all writers is cheap, more when it is not, so that
#: with a thousand busy writers the frames grow instead of their number.
FLUSH_S = 0.03
LONGEST_FLUSH_S = 0.5
#: Seconds of rest for a second of work, as long as nothing is behind.
REST_RATIO = 12.0
#: The window is full: look for acks this often.
FULL_WINDOW_S = 0.01
SETTLE_EVERY_S = 0.5
RETAIN_EVERY_S = 5.0
#: An agent that is told to stop looks on for this long while processes live.
LAST_LOOK_S = 1.5
#: Faults of the agent itself before it gives up; the next Run starts another one.
MAX_FAULTS = 10


class Agent:
    """Ships one target directory. Not thread-safe; `run` may be called once."""

    def __init__(
        self,
        settings: NodeSettings,
        mine: AgentLock | None,
        *,
        spools: Sequence[Path] | None = None,
        clock: Callable[[], float] = time.monotonic,
        unix_clock: Callable[[], float] = time.time,
        limits: WindowLimits | None = None,
    ) -> None:
        """Prepare; nothing is read or sent before `step`.

        Args:
            mine: The lock on the target directory, held by the caller; None with `spools`.
            spools: Ship these spool directories, wherever they lie, instead of the target's.
        """
        self._settings = settings
        self._lock = mine
        self._clock = clock
        self._unix_clock = unix_clock
        self.shipper = Shipper(limits or WindowLimits(window_bytes=settings.window_bytes))
        self._watch = ProcessWatch(clock=clock)
        host, boot = socket.gethostname(), boot_id()
        self.writers = Writers(
            settings.target_dir if spools is None else None,
            spools=spools or (),
            watch=self._watch,
            shipper=self.shipper,
            clock=clock,
            host=host,
            boot=boot,
        )
        self._delivery = Delivery(self.shipper, self.writers.tails, clock)
        self._uplink = Uplink(settings, on_lost=self._link_lost, clock=clock)
        self._heartbeats = Heartbeats(
            NodeIdentity(f"{host}/{boot[:8]}", host, boot), interval_s=settings.heartbeat_interval_s
        )
        self._disk_sync = DiskSync(settings.target_dir, within_s=settings.sync_spool_s)
        home = spools[0].parent if spools else settings.target_dir
        self.witness = Witness(self.writers, NodeSpool(home, host=host, clock=clock))
        self._parents = Parents(settings.runfold_dir, boot=boot, namespace=pid_namespace())
        self.deaths = Deaths(self.witness, self._watch, self._parents, boot=boot)
        self._stopping = Stopping(
            self.witness, settings.target_dir, is_allowed=settings.allow_stop, clock=clock
        )
        self._stacks = StackDumps(self.writers.tails, self.witness) if settings.stacks else None
        self._uploads = Uploads(settings, self.writers, clock=clock)
        self.duties = Duties(self._make_duties() if mine is not None else self._witnesses())
        self._settled_s = self._retained_s = -1e9
        #: the last times that the coordinator was seen alive, and that a writer was.
        self._reachable_s = self._busy_s = clock()
        self._last = Round()
        #: processor time of a step lately, seconds
        self._worked_s = 0.0
        self._faults = 0
        self._note = ""

    def run(self, *, should_stop: Callable[[], bool]) -> str:
        """Ship until idle or told to stop; return why it ended."""
        retention.remove_leftovers(self._settings.target_dir)
        self._disk_sync.start()
        told_s: float | None = None  # when it was told to stop
        is_ending, sleep_s, looked_s = False, 0.0, -1e9
        try:
            while True:
                self._step_safely(sleep_s)
                if told_s is None and should_stop():
                    told_s = self._clock()
                for_s = -1.0 if told_s is None else self._clock() - told_s
                if not is_ending and for_s >= 0 and self._has_seen_the_last(for_s):
                    is_ending = True
                    self.end_duties()
                    continue  # what was said last is delivered too
                if is_ending and (not self._has_work() or for_s >= self._settings.drain_s):
                    return "stopped"
                if self._settled_s > looked_s:
                    looked_s = self._settled_s
                    if self._is_idle() and self._leave():
                        return "idle"
                sleep_s = self.pause_s()
        finally:
            self.close()

    def end_duties(self) -> list[Path]:
        """Say the last of what was seen; return the agent's own spool, which has to be delivered too."""
        self.duties.close()
        return self.witness.spool.close()

    def close(self) -> None:
        """Close link and spools; what is not delivered stays in the spools. Idempotent."""
        self.end_duties()
        self._uploads.stop()
        self._disk_sync.stop()
        self._uplink.close()
        self.writers.close()
        self._watch.close()

    @property
    def trouble(self) -> str | None:
        """What keeps the agent from its server; None while a link stands."""
        return self._uplink.trouble

    def step(self, sleep_s: float = 0.0) -> None:
        """Sleep (a death ends it early), then do each duty that is due."""
        ended = self._watch.wait(sleep_s)
        began_s = time.thread_time()
        if ended:
            for tail in self.writers.ended(cast("list[bytes]", ended)):
                self.duties.ended(tail)
            self._heartbeats.hurry()
        self.find_writers()
        self._last = self._exchange()
        now_s = self._clock()
        if ended or now_s - self._settled_s >= SETTLE_EVERY_S:
            self._settled_s = now_s
            if self.writers.settle():
                self._heartbeats.hurry()
            self.duties.step(now_s)
            self._tidy(now_s)
            self._tell_state()
        self._worked_s = 0.5 * self._worked_s + 0.5 * (time.thread_time() - began_s)

    def find_writers(self, *, every_s: float = 1.0) -> bool:
        """Take in writers that are new; return whether there were any."""
        found = self.writers.discover(every_s=every_s)
        for tail in found:
            self.duties.found(tail)
        if found:
            self._heartbeats.hurry()
        return bool(found)

    def pause_s(self) -> float:
        """Return how long to sleep before the next step, seconds."""
        held_s = self._uplink.held_for_s
        if not self._uplink.is_open:
            return min(0.5, max(0.02, held_s))
        if held_s:
            return min(LONGEST_FLUSH_S, held_s)
        if self._last.has_more:
            return 0.0
        if self.shipper.is_full():
            return FULL_WINDOW_S
        flush_s = min(LONGEST_FLUSH_S, max(FLUSH_S, REST_RATIO * self._worked_s))
        return min(flush_s, max(0.001, self._heartbeats.due_in_s(self._clock())))

    def _step_safely(self, sleep_s: float) -> None:
        """A fault of ours must not leave the node without its agent: begin anew, a few times."""
        try:
            self.step(sleep_s)
        except Exception:
            self._faults += 1
            logger.exception("a fault in the agent", extra={"event": "agent_fault", "count": self._faults})
            if self._faults >= MAX_FAULTS:
                raise
            self._uplink.close()
            self._uplink.hold(1.0)

    # --- the link ---------------------------------------------------------------------------------------

    def _exchange(self) -> Round:
        was_open = self._uplink.is_open
        link = self._uplink.get()
        if link is None:
            return Round()
        if not was_open:
            self._link_opened()
        now_s = self._clock()
        evidence = self.witness.offer()
        beats, news = self._due_heartbeat(now_s)
        try:
            did = self._delivery.round(
                link,
                evidence + beats,  # in this order: whoever hears of a death knows its cause by then
                budget_bytes=self._uplink.budget_bytes,
                may_send=not self._uplink.held_for_s,
            )
        except LinkError as error:
            self._uplink.lost(error)
            return Round()
        self.witness.answered(were_taken=did.controls_taken)
        if beats and did.controls_taken:
            self._heartbeats.sent(now_s)
            self.writers.reported(news)
        self._after(did)
        return did

    def _due_heartbeat(self, now_s: float) -> tuple[list[tuple[int, bytes]], list[WriterNews]]:
        if not self.writers.tails or not self._heartbeats.is_due(now_s):
            return [], []
        news = self.writers.news()
        return self._heartbeats.pack(news, self._unix_clock()), news

    def _after(self, did: Round) -> None:
        for writer in self._delivery.take_broken():
            self.writers.forget_broken(writer)
        if did.partitions:
            self.writers.set_partitions(did.partitions)
        if did.refused is not None:
            self._uplink.refused(did.refused)
        else:
            self._uplink.succeeded(took_frames=did.sent_frames > 0)
            self._uplink.prefer_redis()
        stops = did.stops | self._delivery.ask_another_way(self._uplink.ask_http)
        if stops:
            self._carry_out(stops)
        if self._stacks is not None and did.stacks:
            self._stacks.take(did.stacks)

    def _carry_out(self, stops: dict[bytes, StopRequest]) -> None:
        try:
            self._stopping.take(stops)
        except Exception:
            logger.exception("a stop request could not be carried out", extra={"event": "stop_failed"})

    def _link_opened(self) -> None:
        address = self._uplink.address
        if address is not None and address.partitions:
            self.writers.set_partitions(address.partitions)
        self._heartbeats.hurry()

    def _link_lost(self) -> None:
        self._delivery.link_lost()

    # --- beside shipping --------------------------------------------------------------------------------

    def _make_duties(self) -> list[Duty]:
        """Return what this agent does for its node; each part has a switch in the settings."""
        duties = [*self._witnesses(), self._stopping, *self._notices(), self._uploads]
        if self._stacks is not None:
            duties.append(self._stacks)
        if self._settings.stats:
            duties.append(
                Sampler(
                    self.witness,
                    interval_s=self._settings.stats_interval_s,
                    target_dir=self._settings.target_dir,
                    clock=self._clock,
                )
            )
        return duties

    def _notices(self) -> list[Duty]:
        """Return those that are told by others that this machine, or a job, is taken away."""
        chosen = self._settings.notices
        asked = sources(chosen, os.environ, metadata_url=self._settings.metadata_url)
        duties: list[Duty] = [Notices(self.witness, asked, unix_clock=self._unix_clock)] if asked else []
        if "slurm" in chosen or (chosen == ("auto",) and has_slurm()):
            duties.append(SlurmJobs(self.witness, clock=self._clock))
        return duties

    def _witnesses(self) -> list[Duty]:
        """Return those that say how processes fare and end, causes before ends."""
        return [
            Launchers(self.witness, self._parents),
            self.deaths,
            Suspensions(self.witness.knows, self._heartbeats.hurry),
        ]

    def _tidy(self, now_s: float) -> None:
        if now_s - self._retained_s < RETAIN_EVERY_S:
            return
        self._retained_s = now_s
        # Room for what nobody has stored yet comes before copies of what a server already has.
        is_full = retention.is_nearly_full(self._settings.target_dir)
        self.writers.remove_old(
            now_unix_s=self._unix_clock(),
            keep_s=0 if is_full else self._settings.keep_spool_s,
            keep_bytes=0 if is_full else self._settings.keep_spool_bytes,
        )

    def _tell_state(self) -> None:
        """Let other Runs see that the server refuses this agent: they may have better credentials."""
        if self._lock is None or not self._lock.is_mine:
            return
        kind = "process" if threading.current_thread() is threading.main_thread() else "thread"
        state = "refused" if self._uplink.is_refused else "works"
        note = f"{os.getpid()} {kind} {state} {self._settings.fingerprint}"
        if note != self._note:
            self._note = note
            self._lock.note(note)

    # --- the end ----------------------------------------------------------------------------------------

    def _has_work(self) -> bool:
        if self._uploads.is_at_work():
            return True
        if not self._uplink.is_open:
            return False  # nobody takes it; the spools keep it for the next agent
        if self.shipper.coordinator_lives(self._clock()):
            return not self.writers.are_all_acked()
        return not self.writers.is_all_sent()

    def _has_seen_the_last(self, told_for_s: float) -> bool:
        """Return whether no process is left to be seen ending.

        Who stops an agent (scancel, systemd, a shutdown) mostly stops the processes with it.
        """
        if told_for_s >= min(LAST_LOOK_S, self._settings.drain_s):
            return True
        if threading.current_thread() is not threading.main_thread():
            return True  # a thread of a trainer, which waits for it
        return not any(is_alive for _, _, is_alive in self.witness.processes())

    def _is_idle(self) -> bool:
        """Return True when nobody needs the agent for long enough."""
        now_s = self._clock()
        if self.shipper.coordinator_lives(now_s):
            self._reachable_s = now_s
        if self.writers.open_count():
            self._busy_s = now_s
            return False
        if self.writers.are_all_drained() and not self._uploads.may_get_on():
            return now_s - self._busy_s >= self._settings.idle_exit_s and self._is_own_spool_delivered()
        return now_s - max(self._busy_s, self._reachable_s) >= self._settings.unreachable_exit_s

    def _is_own_spool_delivered(self) -> bool:
        """Nothing more is to be seen: end the own spool, so that it is delivered like everybody's."""
        if not self.witness.spool.is_open:
            return True
        self.witness.spool.close()
        return False

    def _leave(self) -> bool:
        """Give the lock back, then look once more: a Run that saw it held must not be left alone."""
        assert self._lock is not None, "an agent that ends by itself holds a target's lock"
        known = set(self.writers.tails)
        self._lock.release()
        has_found = self.find_writers(every_s=0.0)
        if not has_found and known == set(self.writers.tails):
            return True
        return not self._lock.acquire(patience_s=0.0)
