"""What torchelastic's `@record` wrote of the exception that ended a rank. In: its file. Out: facts.

The format is that of torch/distributed/elastic/multiprocessing/errors/error_handler.py:
{"message": {"message": "ValueError: x", "extraInfo": {"py_callstack": ..., "timestamp": "1700000000"}}}.
"""

from __future__ import annotations

import json
import os
import re
import stat
from typing import Any

from runfold.protocol.limits import MAX_TRACEBACK_BYTES
from runfold.redact import redact_text

#: Larger files are not read.
MAX_FILE_BYTES = 256 * 1024
_MESSAGE_CHARS = 2000
#: The exception's class, before its message.
_CLASS = re.compile(r"([A-Za-z_][\w.]*)(?::|\s*$)")


def read_elastic_error(path: str) -> dict[str, Any] | None:
    """Return what the error file of a rank says, secrets removed; None when there is no such file."""
    try:
        found = json.loads(_read(path))
        return _facts(found["message"])
    except (OSError, ValueError, LookupError, TypeError, RecursionError):
        return None


def _read(path: str) -> bytes:
    # Neither a link nor a pipe: a name from a process's environment is not to make the agent wait.
    fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with open(fd, "rb") as file:
        about = os.fstat(fd)
        if not stat.S_ISREG(about.st_mode) or about.st_uid != os.geteuid():
            raise ValueError("not a file of this user")
        data = file.read(MAX_FILE_BYTES + 1)
    if len(data) > MAX_FILE_BYTES:
        raise ValueError("too large")
    return data


def _facts(said: Any) -> dict[str, Any] | None:
    """Take both forms: a text, and a map with the stack."""
    more: Any = {}
    if isinstance(said, dict):
        more = said.get("extraInfo")
        more = more if isinstance(more, dict) else {}
        said = said.get("message")
    if not isinstance(said, str) or not said:
        return None
    facts: dict[str, Any] = {"message": redact_text(_clean(said[: 2 * _MESSAGE_CHARS]))[:_MESSAGE_CHARS]}
    if (named := _CLASS.match(facts["message"])) is not None:
        facts["exception"] = named[1][:200]
    stack = more.get("py_callstack")
    if isinstance(stack, str) and stack:
        facts["traceback"] = _last_part(redact_text(_clean(stack[-2 * MAX_TRACEBACK_BYTES :])))
    try:
        facts["unix_s"] = float(more["timestamp"])
    except (KeyError, TypeError, ValueError):
        pass
    return facts


def _clean(text: str) -> str:
    """JSON may hold halves of surrogate pairs, which no message takes."""
    return text.encode("utf-8", "replace").decode()


def _last_part(text: str) -> str:
    """Cut at the beginning: the exception is at the end."""
    data = text.encode("utf-8", "replace")
    return text if len(data) <= MAX_TRACEBACK_BYTES else data[-MAX_TRACEBACK_BYTES:].decode("utf-8", "ignore")
