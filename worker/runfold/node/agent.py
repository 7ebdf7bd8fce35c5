"""The agent's loop: watch, find, ship, heartbeat, tidy up, and end when nothing is left to do.

In: settings and the lock on a target directory. Out: everything in its spools, durably at the server.
One thread; every wait is bounded, so that a death is told within a moment and SIGTERM is heard.
"""

from __future__ import annotations

import logging
import socket
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import cast

from . import retention
from .connect import Address, Connector
from .delivery import Delivery, Round
from .failures import LinkError, NoServerError, Reaction, back_off_for
from .heartbeat import Heartbeats, NodeIdentity
from .link import Link
from .lock import AgentLock
from .processes import ProcessWatch, boot_id
from .settings import NodeSettings
from .shipper import Shipper, WindowLimits
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
RETAIN_EVERY_S = 10.0
#: The server's own trouble is logged at most this often.
LOG_EVERY_S = 60.0
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
        self._heartbeats = Heartbeats(
            NodeIdentity(f"{host}/{boot[:8]}", host, boot), interval_s=settings.heartbeat_interval_s
        )
        self._connector = Connector(settings, clock=clock)
        self._link: Link | None = None
        self._address: Address | None = None
        self._back_offs = {reaction: back_off_for(reaction) for reaction in Reaction}
        #: nothing is tried before this time.
        self._hold_until_s = 0.0
        self._settled_s = self._retained_s = -1e9
        self._logged_s = -1e9
        #: the last times that the coordinator was seen alive, and that a writer was.
        self._reachable_s = self._busy_s = clock()
        self._last = Round()
        self._trouble = "not connected yet"
        self._faults = 0
        #: processor time of a step lately, seconds
        self._worked_s = 0.0

    def run(self, *, should_stop: Callable[[], bool]) -> str:
        """Ship until idle or told to stop; return why it ended."""
        retention.remove_leftovers(self._settings.target_dir)
        stop_by_s: float | None = None
        sleep_s, looked_s = 0.0, -1e9
        try:
            while True:
                self._step_safely(sleep_s)
                if stop_by_s is None and should_stop():
                    stop_by_s = self._clock() + self._settings.drain_s
                if stop_by_s is not None and (not self._has_work() or self._clock() >= stop_by_s):
                    return "stopped"
                if self._settled_s > looked_s:
                    looked_s = self._settled_s
                    if self._is_idle() and self._leave():
                        return "idle"
                sleep_s = self.pause_s()
        finally:
            self.close()

    def close(self) -> None:
        """Close link and spools; what is not delivered stays in the spools. Idempotent."""
        if self._link is not None:
            self._link.close()
            self._link = None
        self.writers.close()
        self._watch.close()

    @property
    def trouble(self) -> str | None:
        """What keeps the agent from its server; None while a link stands."""
        return None if self._link is not None else self._trouble

    def step(self, sleep_s: float = 0.0) -> None:
        """Sleep (a death ends it early), then do each duty that is due."""
        ended = self._watch.wait(sleep_s)
        began_s = time.thread_time()
        if ended:
            self.writers.ended(cast("list[bytes]", ended))
            self._heartbeats.hurry()
        if self.writers.discover():
            self._heartbeats.hurry()
        self._last = self._exchange()
        now_s = self._clock()
        if now_s - self._settled_s >= SETTLE_EVERY_S or ended:
            self._settled_s = now_s
            if self.writers.settle():
                self._heartbeats.hurry()
            self._tidy(now_s)
        self._worked_s = 0.5 * self._worked_s + 0.5 * (time.thread_time() - began_s)

    def _step_safely(self, sleep_s: float) -> None:
        """A fault of ours must not leave the node without its agent: begin anew, a few times."""
        try:
            self.step(sleep_s)
        except Exception:
            self._faults += 1
            logger.exception("a fault in the agent", extra={"event": "agent_fault", "count": self._faults})
            if self._faults >= MAX_FAULTS:
                raise
            self._close_link()
            self._hold_until_s = self._clock() + 1.0

    # --- the link ---------------------------------------------------------------------------------------

    def _exchange(self) -> Round:
        now_s = self._clock()
        if self._link is not None and self._connector.registration_changed():
            self._close_link()  # another server was registered on this node
        if self._link is None and not self._connect(now_s):
            return Round()
        assert self._link is not None, "connected above"
        controls, news = [], []
        if self._heartbeats.is_due(now_s) and self.writers.tails:
            news = self.writers.news()
            controls = self._heartbeats.pack(news, self._unix_clock())
        try:
            did = self._delivery.round(
                self._link,
                controls,
                budget_bytes=self._connector.pace.budget_bytes,
                may_send=now_s >= self._hold_until_s,
            )
        except LinkError as error:
            self._lose_link(error)
            return Round()
        if controls and did.controls_taken:
            self._heartbeats.sent(now_s)
            self.writers.reported(news)
        self._after(did)
        return did

    def _connect(self, now_s: float) -> bool:
        if now_s < self._hold_until_s and not self._connector.registration_changed():
            return False
        try:
            self._link, self._address = self._connector.open()
        except LinkError as error:
            self._fail(error.reaction, str(error), is_quiet=isinstance(error, NoServerError))
            return False
        if self._address.partitions:
            self.writers.set_partitions(self._address.partitions)
        self._hold_until_s = now_s
        self._heartbeats.hurry()
        return True

    def _lose_link(self, error: LinkError) -> None:
        self._close_link()
        self._fail(error.reaction, str(error))

    def _close_link(self) -> None:
        if self._link is not None:
            self._link.close()
            self._link = None
        self._delivery.link_lost()

    def _after(self, did: Round) -> None:
        for writer in list(self._delivery.broken):
            self._delivery.broken.discard(writer)
            self.writers.forget_broken(writer)
        if did.partitions:
            self.writers.set_partitions(did.partitions)
        if did.refused is not None:
            self._fail(did.refused.reaction, did.refused.message)
            if did.refused.reaction in (Reaction.RESOLVE, Reaction.REFUSED):
                self._close_link()
        else:
            self._succeed(everything=did.sent_frames > 0)
        if self._link is not None and self._address is not None:
            self._prefer_redis(self._link, self._address)

    def _prefer_redis(self, link: Link, address: Address) -> None:
        if self._connector.should_try_redis(link, address):
            better = self._connector.reopen_redis(address)
            if better is not None:
                link.close()
                self._link = better
                self._delivery.link_lost()

    def _succeed(self, *, everything: bool) -> None:
        """Asking works in a full Redis too: only frames that were taken prove that frames are taken."""
        for reaction, back_off in self._back_offs.items():
            if everything or reaction is Reaction.RECONNECT:
                back_off.succeed()

    def _fail(self, reaction: Reaction, message: str, *, is_quiet: bool = False) -> None:
        now_s = self._clock()
        self._trouble = message
        self._hold_until_s = now_s + self._back_offs[reaction].fail()
        if not is_quiet and now_s - self._logged_s >= LOG_EVERY_S:
            self._logged_s = now_s
            logger.warning(
                "nothing can be delivered now, the spools keep it: %s",
                message,
                extra={"event": "delivery_held", "reaction": reaction.value},
            )

    # --- duties -----------------------------------------------------------------------------------------

    def _tidy(self, now_s: float) -> None:
        if now_s - self._retained_s < RETAIN_EVERY_S:
            return
        self._retained_s = now_s
        self.writers.remove_old(
            now_unix_s=self._unix_clock(),
            keep_s=self._settings.keep_spool_s,
            keep_bytes=self._settings.keep_spool_bytes,
        )

    # --- rest and end -----------------------------------------------------------------------------------

    def pause_s(self) -> float:
        """Return how long to sleep before the next step, seconds."""
        now_s = self._clock()
        if self._link is None:
            return min(0.5, max(0.02, self._hold_until_s - now_s))
        if now_s < self._hold_until_s:
            return min(LONGEST_FLUSH_S, self._hold_until_s - now_s)
        if self._last.has_more:
            return 0.0
        if self.shipper.is_full():
            return FULL_WINDOW_S
        flush_s = min(LONGEST_FLUSH_S, max(FLUSH_S, REST_RATIO * self._worked_s))
        return min(flush_s, max(0.001, self._heartbeats.due_in_s(now_s)))

    def _has_work(self) -> bool:
        if self._link is None:
            return False  # nobody takes it; the spools keep it for the next agent
        if self.shipper.coordinator_lives(self._clock()):
            return not self.writers.are_all_acked()
        return not self.writers.is_all_sent()

    def _is_idle(self) -> bool:
        """Return True when nobody needs the agent for long enough."""
        now_s = self._clock()
        if self.shipper.coordinator_lives(now_s):
            self._reachable_s = now_s
        if self.writers.open_count():
            self._busy_s = now_s
            return False
        if self.writers.are_all_drained():
            return now_s - self._busy_s >= self._settings.idle_exit_s
        return now_s - max(self._busy_s, self._reachable_s) >= self._settings.unreachable_exit_s

    def _leave(self) -> bool:
        """Give the lock back, then look once more: a Run that saw it held must not be left alone."""
        assert self._lock is not None, "an agent that ends by itself holds a target's lock"
        known = set(self.writers.tails)
        self._lock.release()
        found = self.writers.discover(every_s=0.0)
        if not found and known == set(self.writers.tails):
            return True
        return not self._lock.acquire(patience_s=0.0)
