"""Whether a run's id was used and its run deleted: asked before anything is logged that nobody would see.

In: an identity, and the server's address. Out: an error, or a word. By the standard library: importing httpx
takes longer than all the rest of an init() that goes on with nothing.
"""

from __future__ import annotations

import queue
import threading
from typing import Any
from urllib.parse import quote

from runfold import terminal
from runfold.errors import CommError
from runfold.node.settings import NodeSettings
from runfold.protocol.errors import ProtocolError
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

    def ask() -> None:  # in a thread: looking up a name can't be given a limit
        answers.put(_answer(address, node.api_key, patience_s))

    threading.Thread(target=ask, name="runfold-begin", daemon=True).start()
    try:
        said = answers.get(timeout=patience_s)
    except queue.Empty:
        return False
    return isinstance(said, dict) and said.get("deleted") is True


def _answer(address: str, api_key: str | None, timeout_s: float) -> Any:
    """Return the decoded answer; None for one that is no answer. The key is shown to this address only."""
    from http.client import HTTPException
    from urllib.request import HTTPRedirectHandler, Request, build_opener

    class Stay(HTTPRedirectHandler):
        def redirect_request(self, *_: Any) -> None:
            return None

    headers = {"accept": "application/msgpack"}
    if api_key:
        headers["authorization"] = f"Bearer {api_key}"
    if not address.startswith(("http://", "https://")):
        return None
    try:
        asked = Request(address, headers=headers)  # noqa: S310 - of a scheme that was looked at
        with build_opener(Stay).open(asked, timeout=timeout_s) as answer:
            return unpack_value(answer.read(_MAX_ANSWER_BYTES))
    except (OSError, ValueError, HTTPException, ProtocolError):
        return None
