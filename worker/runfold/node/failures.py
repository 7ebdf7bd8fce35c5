"""Every way a server can refuse or vanish, and what the agent does about it: retry is the default.

In: the text or class of an error. Out: a `Reaction`. Pure: nothing here knows a driver.
"""

from __future__ import annotations

from enum import Enum
from typing import Final

from .back_off import BackOff


class Reaction(Enum):
    """What to do about a failure. No reaction ever drops a record: the spool keeps it."""

    #: Nothing is known about it: rewind to the ack, wait a little, try again on the same connection.
    RETRY = "retry"
    #: The connection is gone or can't be trusted: rewind, connect again.
    RECONNECT = "reconnect"
    #: Redis is full (-OOM): rewind, keep polling for acks, send again when the coordinator has trimmed.
    BACK_PRESSURE = "back_pressure"
    #: The server is busy with itself (loading, a script, a failover): the same address, a longer wait.
    WAIT = "wait"
    #: This address is no longer the right one, or may not be written: ask again where the server is.
    RESOLVE = "resolve"
    #: Credentials or rights are missing: a person must act; ask again for credentials, wait long.
    REFUSED = "refused"


#: First word of a Redis error reply -> reaction. A word that is not here means RETRY.
REDIS_REACTIONS: Final[dict[str, Reaction]] = {
    "OOM": Reaction.BACK_PRESSURE,
    "LOADING": Reaction.WAIT,
    "BUSY": Reaction.WAIT,
    "MASTERDOWN": Reaction.WAIT,
    "NOREPLICAS": Reaction.WAIT,
    "MISCONF": Reaction.WAIT,
    "CLUSTERDOWN": Reaction.WAIT,
    "TRYAGAIN": Reaction.WAIT,
    "NOQUORUM": Reaction.WAIT,
    "READONLY": Reaction.RESOLVE,
    "MOVED": Reaction.RESOLVE,
    "ASK": Reaction.RESOLVE,
    "UNBLOCKED": Reaction.RECONNECT,
    "NOAUTH": Reaction.REFUSED,
    "WRONGPASS": Reaction.REFUSED,
    "NOPERM": Reaction.REFUSED,
    "DENIED": Reaction.REFUSED,  # protected mode
    "WRONGTYPE": Reaction.REFUSED,  # somebody's key stands where the stream should be
}

#: HTTP status -> reaction. Others: 5xx means WAIT, the rest RETRY.
HTTP_REACTIONS: Final[dict[int, Reaction]] = {
    401: Reaction.REFUSED,
    403: Reaction.REFUSED,
    404: Reaction.RESOLVE,
    408: Reaction.RETRY,
    429: Reaction.BACK_PRESSURE,
    507: Reaction.BACK_PRESSURE,
}

#: Reaction -> (first wait, longest wait) in seconds; each failure in a row doubles the wait.
WAITS_S: Final[dict[Reaction, tuple[float, float]]] = {
    Reaction.RETRY: (0.1, 5.0),
    Reaction.RECONNECT: (0.05, 5.0),
    Reaction.BACK_PRESSURE: (0.05, 1.0),
    Reaction.WAIT: (0.25, 5.0),
    Reaction.RESOLVE: (0.25, 5.0),
    Reaction.REFUSED: (1.0, 30.0),
}


def redis_reaction(message: str) -> Reaction:
    """Return the reaction to a Redis error reply, by its first word."""
    word = message.split(" ", 1)[0].lstrip("-").rstrip(":")
    return REDIS_REACTIONS.get(word, Reaction.RETRY)


def http_reaction(status: int) -> Reaction:
    """Return the reaction to an HTTP status that is not a success."""
    default = Reaction.WAIT if status >= 500 else Reaction.RETRY
    return HTTP_REACTIONS.get(status, default)


def back_off_for(reaction: Reaction) -> BackOff:
    """Return a fresh back-off with the waits of one reaction."""
    first_s, longest_s = WAITS_S[reaction]
    return BackOff(first_s, longest_s)


class LinkError(Exception):
    """The server could not be reached, or refused as a whole. Nothing that was sent may be believed."""

    def __init__(self, message: str, reaction: Reaction = Reaction.RECONNECT) -> None:
        super().__init__(message)
        self.reaction = reaction


class NoServerError(LinkError):
    """No address is known: no setting names a server and none is registered on this node."""

    def __init__(self, message: str) -> None:
        super().__init__(message, Reaction.RESOLVE)
