"""The agent's way to its server: opened when it is time, closed when it failed, with the waits in between.

In: what exchanges and attempts came to. Out: an open link or None, and until when nothing should be sent.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from .connect import Address, Connector
from .failures import LinkError, NoServerError, Reaction, back_off_for
from .link import Downlink, Link, Outgoing, Refused
from .settings import NodeSettings

logger = logging.getLogger(__name__)

#: The server's own trouble is logged at most this often, seconds.
LOG_EVERY_S = 60.0
#: While Redis tells nothing new, the coordinator itself is asked for acks this often, seconds.
ASK_HTTP_EVERY_S = 10.0


class Uplink:
    """Holds at most one link. Not thread-safe. `close` is idempotent."""

    def __init__(
        self,
        settings: NodeSettings,
        *,
        on_lost: Callable[[], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Prepare; nothing is opened yet.

        Args:
            on_lost: Called whenever a link is closed: what is in flight on it may not be believed.
        """
        self._connector = Connector(settings, clock=clock)
        self._on_lost = on_lost
        self._clock = clock
        self._link: Link | None = None
        self.address: Address | None = None
        self._back_offs = {reaction: back_off_for(reaction) for reaction in Reaction}
        #: Nothing is sent or opened before this time.
        self._hold_until_s = -1e9
        self._logged_s = -1e9
        self._asked_http_s = -1e9
        self._trouble = "not connected yet"
        #: The last failure was about credentials or rights.
        self.is_refused = False

    @property
    def is_open(self) -> bool:
        """Return True while a link stands."""
        return self._link is not None

    @property
    def trouble(self) -> str | None:
        """What keeps the agent from its server; None while a link stands."""
        return None if self._link is not None else self._trouble

    @property
    def budget_bytes(self) -> int:
        """Bytes of frames for the next round trip."""
        return self._connector.pace.budget_bytes

    @property
    def held_for_s(self) -> float:
        """Seconds until something may be sent or opened, at least 0."""
        return max(0.0, self._hold_until_s - self._clock())

    def get(self) -> Link | None:
        """Return the open link; open one if it is time to try."""
        if self._link is not None and self._connector.registration_changed():
            self.close()  # another server was registered on this node
        if self._link is None and (not self.held_for_s or self._connector.registration_changed()):
            self._open()
        return self._link

    def lost(self, error: LinkError) -> None:
        """The link failed as a whole."""
        self.close()
        self._fail(error.reaction, str(error))

    def refused(self, answer: Refused) -> None:
        """Something was refused: wait; where this address is the wrong one, look for the right one."""
        self._fail(answer.reaction, answer.message)
        if answer.reaction in (Reaction.RESOLVE, Reaction.REFUSED):
            self.close()

    def succeeded(self, *, took_frames: bool) -> None:
        """A round trip went well. Asking works in a full Redis too: only taken frames prove more."""
        for reaction, back_off in self._back_offs.items():
            if took_frames or reaction is Reaction.RECONNECT:
                back_off.succeed()
        self.is_refused = self.is_refused and not took_frames

    def prefer_redis(self) -> None:
        """While frames travel by HTTP, look for Redis now and then."""
        link, address = self._link, self.address
        if link is not None and address is not None and self._connector.should_try_redis(link, address):
            better = self._connector.reopen_redis(address)
            if better is not None:
                self.close()
                self._link = better

    def ask_http(self, question: Outgoing) -> dict[int, Downlink]:
        """Ask the second way, while Redis tells nothing; empty where there is no answer."""
        now_s = self._clock()
        address = self.address
        if address is None or not address.http_url or now_s - self._asked_http_s < ASK_HTTP_EVERY_S:
            return {}
        self._asked_http_s = now_s
        try:
            second = self._connector.open_http(address)
            try:
                return second.exchange(question).downlinks
            finally:
                second.close()
        except LinkError:
            return {}

    def close(self) -> None:
        """Close the link."""
        if self._link is not None:
            self._link.close()
            self._link = None
            self._on_lost()

    def hold(self, wait_s: float) -> None:
        """Send and open nothing for a while."""
        self._hold_until_s = self._clock() + wait_s

    def _open(self) -> None:
        try:
            self._link, self.address = self._connector.open()
            self._asked_http_s = self._clock()
        except LinkError as error:
            self._fail(error.reaction, str(error), is_quiet=isinstance(error, NoServerError))

    def _fail(self, reaction: Reaction, message: str, *, is_quiet: bool = False) -> None:
        self._trouble = message
        self.is_refused = reaction is Reaction.REFUSED
        self.hold(self._back_offs[reaction].fail())
        now_s = self._clock()
        if not is_quiet and now_s - self._logged_s >= LOG_EVERY_S:
            self._logged_s = now_s
            logger.warning(
                "nothing can be delivered now, the spools keep it: %s",
                message,
                extra={"event": "delivery_held", "reaction": reaction.value},
            )
