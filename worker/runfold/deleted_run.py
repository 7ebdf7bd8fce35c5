"""Whether a run's id was used and its run deleted: asked before anything is logged that nobody would see.

In: an identity, and the server's address. Out: an error, or a word. By the standard library: importing httpx
takes longer than all the rest of an init() that goes on with nothing.
"""

from __future__ import annotations

import contextlib
import queue
import threading
import time
from typing import Any
from urllib.parse import quote

from runfold import terminal
from runfold.errors import CommError
from runfold.node.settings import NodeSettings
from runfold.protocol.identity import Identity
from runfold.protocol.values import unpack_value
from runfold.resume_question import address_of

#: Longest wait of an init() that names a run and goes on with nothing, seconds.
PATIENCE_S = 1.0
_MAX_ANSWER_BYTES = 65_536


def refuse_if_deleted(node: NodeSettings, identity: Identity) -> None:
    """Refuse an id whose run was deleted, where a server is there to tell.

    Raises:
        CommError: It was deleted; W&B's server, too, refuses such an id.
    """
    if is_deleted(node, identity, patience_s=PATIENCE_S):
        refuse(identity)


def refuse(identity: Identity) -> None:
    """Say that nobody would see what is logged; a job that is under way goes on.

    Raises:
        CommError: It is not: its process was not started again by a launcher.
    """
    said = f"run {identity.run_path} was deleted"
    if identity.launcher.restart_hint:
        terminal.warn(f"{said}: this job goes on, hidden. `runfold undelete {identity.run_path}` shows it")
        return
    raise CommError(
        f"{said}: its id can't be used again as long as it is kept. Use another id, or bring it back with "
        f"`runfold undelete {identity.run_path}`"
    )


def is_deleted(node: NodeSettings, identity: Identity, *, patience_s: float) -> bool:
    """Tell whether the identity's run was deleted; False where no server says so in time."""
    url = address_of(node)
    if url is None:
        return False
    parts = "/".join(quote(part, safe="") for part in (identity.entity, identity.project, identity.run_id))
    address = f"{url.rstrip('/')}/api/v1/runs/{parts}/resume?kind=begin"
    answers: queue.SimpleQueue[Any] = queue.SimpleQueue()
    import urllib.request  # noqa: F401  # here: a fork while the thread imports would lock its child out

    def ask() -> None:  # in a thread: looking up a name can't be given a limit
        said = None
        with contextlib.suppress(Exception):  # whatever is no answer says nothing of a deletion
            said = _answer(address, node.api_key, patience_s)
        answers.put(said)

    try:
        threading.Thread(target=ask, name="runfold-begin", daemon=True).start()
        said = answers.get(timeout=patience_s)
    except (RuntimeError, queue.Empty):  # a process that can have no more threads goes on
        return False
    return isinstance(said, dict) and said.get("deleted") is True


def _answer(address: str, api_key: str | None, timeout_s: float) -> Any:
    """Return the decoded answer. The key is shown to this address only.

    Raises:
        OSError, HTTPException, ValueError, ProtocolError and more: There is none, or it is nonsense.
    """
    from urllib.request import HTTPRedirectHandler, Request, build_opener

    class Stay(HTTPRedirectHandler):
        def redirect_request(self, *_: Any) -> None:
            return None

    headers = {"accept": "application/msgpack"}
    if api_key:
        headers["authorization"] = f"Bearer {api_key}"
    if not address.startswith(("http://", "https://")):
        return None
    asked = Request(address, headers=headers)  # noqa: S310 - of a scheme that was looked at
    until_s = time.monotonic() + timeout_s
    data = b""
    with build_opener(Stay).open(asked, timeout=timeout_s) as answer:
        while len(data) < _MAX_ANSWER_BYTES and time.monotonic() < until_s:  # it may come byte by byte
            if not (piece := answer.read1(_MAX_ANSWER_BYTES - len(data))):
                break
            data += piece
    return unpack_value(data)
