"""The seam of the package: what a notice is, and what is asked for one.

A notice says that this machine will be taken away: a spot instance is reclaimed, a pod is evicted. It is no
end yet; it tells why the end comes.
"""

from __future__ import annotations

import http.client
import math
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

if TYPE_CHECKING:
    import ssl

#: Longest wait for an answer, seconds: these services stand beside the machine, or nowhere.
TIMEOUT_S = 0.9
#: Largest answer that is read; a pod's description with its status is some ten kB.
MAX_ANSWER_BYTES = 4_000_000


@dataclass(frozen=True, slots=True)
class Notice:
    """This machine will be taken away.

    Attributes:
        system: aws, gcp, azure, kubernetes or slurm.
        text: What was said, for people.
        at_unix_s: When it happens; None: not said.
        ident: The same for the same notice.
    """

    system: str
    text: str
    at_unix_s: float | None = None
    ident: str = ""

    def facts(self, now_unix_s: float) -> dict[str, Any]:
        """Return the facts of NOTICE evidence, as seen now."""
        left_s = None if self.at_unix_s is None else max(0.0, round(self.at_unix_s - now_unix_s, 1))
        return {"system": self.system, "text": self.text[:500], "grace_s": left_s}


class Source(Protocol):
    """Somebody who tells. Used from one thread."""

    system: str
    #: Seconds between two looks.
    every_s: float

    def look(self) -> Notice | None:
        """Return the notice that stands now. Takes a second or two at most.

        Raises:
            OSError, ValueError: It can't be seen now.
            NeverError: Nor later.
        """


class NeverError(Exception):
    """This source will not tell anything here; the message says why."""


class Answer(NamedTuple):
    """What an HTTP server said."""

    status: int
    body: bytes
    headers: Mapping[str, str]


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: Any, **__: Any) -> None:
        return None


def fetch(
    url: str,
    headers: Mapping[str, str],
    *,
    method: str = "GET",
    context: ssl.SSLContext | None = None,
    timeout_s: float = TIMEOUT_S,
) -> Answer:
    """Ask an address of this machine's own surroundings: by no proxy, and following nobody elsewhere.

    Raises:
        OSError: No answer.
        ValueError: Not an address of HTTP.
    """
    if not url.startswith(("http://", "https://")):
        raise ValueError(f"{url!r} is no http:// or https:// address")
    handlers: list[urllib.request.BaseHandler] = [urllib.request.ProxyHandler({}), _NoRedirect()]
    if context is not None:
        handlers.append(urllib.request.HTTPSHandler(context=context))
    request = urllib.request.Request(url, headers=dict(headers), method=method)  # noqa: S310 - set by us
    try:
        with urllib.request.build_opener(*handlers).open(request, timeout=timeout_s) as answer:
            return Answer(answer.status, answer.read(MAX_ANSWER_BYTES), dict(answer.headers.items()))
    except urllib.error.HTTPError as error:
        with error:
            return Answer(error.code, b"", dict(error.headers.items()))
    except http.client.HTTPException as error:
        raise OSError(f"no HTTP answer: {error!r}") from error


def unix_s_of(text: object) -> float | None:
    """Return the unix seconds of "2017-09-18T08:22:00Z" or "Mon, 19 Sep 2016 18:29:47 GMT"; else None."""
    if not isinstance(text, str) or not text:
        return None
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        try:
            found = parsedate_to_datetime(text)
        except ValueError:
            return None
    if found.tzinfo is None:
        found = found.replace(tzinfo=UTC)
    unix_s = found.timestamp()
    return unix_s if math.isfinite(unix_s) else None
