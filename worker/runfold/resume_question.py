"""Asks the server how far a run is, before this process goes on with it. In: who asks. Out: its answer.

Bounded: a server that is away costs some seconds, and only who resumes, rewinds or forks.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Self, TypeVar
from urllib.parse import urlencode

from runfold.acknowledgement import knows_a_server, registered_url
from runfold.api.paths import route
from runfold.errors import AuthenticationError, CommError
from runfold.node.settings import NodeSettings, public_url
from runfold.protocol.branching import RESUME, REWIND
from runfold.protocol.identity import Identity

#: Longest wait for an answer without which the run goes on, and for one without which it does not; seconds.
PATIENCE_S = 5.0
PATIENCE_OF_MUST_S = 10.0
#: Nobody listens there: that does not change soon.
REFUSED_PATIENCE_S = 1.0
_AGAIN_AFTER_S = 0.2
#: What may come on top where looking up the server's name takes long.
_GRACE_S = 1.0
T = TypeVar("T")
#: Longest wait for records of ended processes that are on the way.
PENDING_S = 2.0


@dataclass(frozen=True, slots=True)
class Known:
    """What the server knows of a run; see `GET .../resume`."""

    exists: bool = False
    #: It was deleted, and is kept for a while: what is logged to it is hidden with it.
    deleted: bool = False
    last_step: int = -1
    runtime_s: float | None = None
    after_unix_ns: int = 0
    pending: int = 0
    live: list[dict[str, Any]] = field(default_factory=list)
    fork: dict[str, Any] | None = None
    name: str | None = None
    notes: str | None = None
    tags: tuple[str, ...] = ()
    group: str | None = None
    job_type: str | None = None
    config: dict[str, Any] = field(default_factory=dict)
    #: Of a rewind: as it was at its step.
    summary: dict[str, Any] = field(default_factory=dict)
    left_out: tuple[str, ...] = ()

    @classmethod
    def from_answer(cls, said: Any) -> Self:
        """Take a decoded answer.

        Raises:
            CommError: It is of another shape: the server is older or newer than this can be.
        """
        try:
            if not said["exists"]:
                return cls(fork=said.get("fork"), deleted=bool(said.get("deleted")))
            return cls(
                exists=True,
                last_step=int(said["last_step"]),
                runtime_s=float(said["runtime_s"]),
                after_unix_ns=int(said["after_unix_ns"]),
                pending=int(said["pending"]),
                live=list(said["live"]),
                fork=said.get("fork"),
                name=said["name"],
                notes=said["notes"],
                tags=tuple(said["tags"]),
                group=said["group"],
                job_type=said["job_type"],
                config=dict(said.get("config") or {}),
                summary=dict(said.get("summary") or {}),
                left_out=tuple(said["left_out"]),
            )
        except (TypeError, KeyError, ValueError) as error:
            raise CommError(
                f"the server's answer has another shape ({error}): it may be of another version", error
            ) from error


class Question:
    """Asks the server of a run. Raises CommError where nobody answers in time."""

    def __init__(self, node: NodeSettings, *, patience_s: float = PATIENCE_S) -> None:
        self._node = node
        self._patience_s = patience_s

    def ask(self, identity: Identity, run_id: str, *, kind: str = RESUME, step: int | None = None) -> Known:
        """Return what the server knows of the run, waiting a moment for records that are on the way."""
        url, asked = self._url(), urlencode(_query(identity, kind, step))
        path = "/api/v1" + route("runs", identity.entity, identity.project, run_id, "resume")

        def look() -> Known:
            return Known.from_answer(self._get(url, f"{path}?{asked}"))

        known = self._bounded(look)
        deadline_s = time.monotonic() + min(PENDING_S, self._patience_s)
        while kind == RESUME and known.pending and time.monotonic() < deadline_s:
            time.sleep(_AGAIN_AFTER_S)
            known = self._bounded(look)
        return known

    def summary_at(self, identity: Identity, step: int) -> dict[str, Any]:
        """Return the summary that the run has once it was rewound to a step; folding it may take a while."""
        url, asked = self._url(), urlencode(_query(identity, REWIND, step) | {"summary": "true"})
        path = "/api/v1" + route("runs", identity.entity, identity.project, identity.run_id, "resume")
        known = self._bounded(lambda: Known.from_answer(self._get(url, f"{path}?{asked}")))
        if "summary" in known.left_out:
            raise CommError("it is too large to be made anew")
        return known.summary

    def summary(self, identity: Identity) -> dict[str, Any]:
        """Return the run's summary as it is now."""
        url = self._url()
        path = "/api/v1" + route("runs", identity.entity, identity.project, identity.run_id, "summary")
        found = self._bounded(lambda: self._get(url, path))
        summary = found.get("summary") if isinstance(found, dict) else None
        return summary if isinstance(summary, dict) else {}

    def _bounded(self, ask: Callable[[], T]) -> T:
        """Return what `ask` returns. In a thread: looking up a name can't be given a limit."""
        answers: queue.SimpleQueue[T | Exception] = queue.SimpleQueue()

        def run() -> None:
            try:
                answers.put(ask())
            except Exception as error:  # noqa: BLE001 - raised where it is waited for
                answers.put(error)

        try:
            threading.Thread(target=run, name="runfold-resume", daemon=True).start()
            answer = answers.get(timeout=self._patience_s + _GRACE_S)
        except RuntimeError as error:
            raise CommError(f"the server could not be asked: {error}") from error
        except queue.Empty:
            raise CommError(f"the server did not answer within {self._patience_s:g} s") from None
        if isinstance(answer, Exception):
            raise answer
        return answer

    def _get(self, url: str, path: str) -> Any:
        from runfold.node.failures import LinkError, Reaction
        from runfold.node.http_writer import HttpClient

        began_s = time.monotonic()
        while True:
            left_s = self._patience_s - (time.monotonic() - began_s)
            try:
                client = HttpClient(url, self._node.api_key, timeout_s=max(left_s, 0.1))
                try:
                    return client.get(path)
                finally:
                    client.close()
            except LinkError as error:
                gone_s = time.monotonic() - began_s
                if error.reaction is Reaction.REFUSED:
                    raise AuthenticationError(f"{error}: set RUNFOLD_API_KEY", error) from error
                if gone_s + _AGAIN_AFTER_S >= _patience_with(error, self._patience_s):
                    raise CommError(f"{public_url(url)} could not be asked: {error}", error) from error
            time.sleep(_AGAIN_AFTER_S)

    def _url(self) -> str:
        url = address_of(self._node)
        if url is None:
            how = "set RUNFOLD_URL" + ("" if self._node.redis_url else ", or start one with `runfold up`")
            raise CommError(f"no server's HTTP address is known here: {how}")
        return url


def address_of(node: NodeSettings) -> str | None:
    """Return the server's HTTP address, as far as it is known here."""
    return node.url or (registered_url(node) if knows_a_server(node) else None)


def _patience_with(error: Exception, patience_s: float) -> float:
    """Return how long to go on asking after an error: who refused will do so again."""
    import httpx

    from runfold.node.failures import LinkError, Reaction

    cause = error.__cause__
    if isinstance(error, LinkError) and error.reaction in (Reaction.RETRY, Reaction.RESOLVE):
        return 0.0  # a status, and one that stays; or no address
    if isinstance(cause, httpx.ConnectError) and not isinstance(cause, httpx.ConnectTimeout):
        return min(REFUSED_PATIENCE_S, patience_s)
    return patience_s


def _query(identity: Identity, kind: str, step: int | None) -> dict[str, Any]:
    launcher = identity.launcher
    said = {
        "kind": kind,
        "summary": "false",
        "step": step,
        "mode": identity.mode,
        "rank": identity.rank,
        "label": identity.label,
        "job_id": launcher.job_id,
        "restart_hint": launcher.restart_hint,
        "launcher": launcher.source,
        "launcher_pid": launcher.launcher_pid,
        "launcher_start": launcher.launcher_start,
        "host": identity.host,
        "boot_id": identity.boot_id,
    }
    return {name: value for name, value in said.items() if value is not None}
