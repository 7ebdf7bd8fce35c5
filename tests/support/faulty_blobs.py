"""A server of blobs and files with the faults that the real one can't be made to show, as an httpx transport.

It keeps to docs/api.md; the journeys run against the real one.
"""

from __future__ import annotations

import hashlib
import json
import re
import threading
from collections.abc import Callable
from typing import Any

import httpx
import msgpack

_UPLOAD = re.compile(r"/api/v1/blobs/([0-9a-f]{64})/upload")

#: What a fault gives for a request: an answer, an exception to raise, or None for the true answer.
Fault = Callable[[httpx.Request], "httpx.Response | Exception | None"]


class FaultyBlobs(httpx.BaseTransport):
    """Thread-safe. Faults are used up in order, one a request."""

    def __init__(self, *faults: Fault) -> None:
        self.faults = list(faults)
        self.blobs: dict[str, bytes] = {}
        self.partial: dict[str, bytes] = {}
        self.rows: dict[str, dict[str, Any]] = {}
        #: What was given up, by name.
        self.lost: dict[str, dict[str, Any]] = {}
        self.requests: list[tuple[str, str]] = []
        self._lock = threading.Lock()

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        with self._lock:
            fault = self.faults.pop(0) if self.faults else None
        found = fault(request) if fault is not None else None
        if isinstance(found, Exception):
            raise found
        body = request.read()
        with self._lock:
            self.requests.append((request.method, request.url.path))
            return found if found is not None else self._answer(request, body)

    def _answer(self, request: httpx.Request, body: bytes) -> httpx.Response:
        path = request.url.path
        if match := _UPLOAD.fullmatch(path):
            digest = match[1]
            if request.method == "GET":
                return self._progress(digest)
            return self._take(digest, request.url.params, body)
        if path.endswith("/blobs/missing"):
            asked = json.loads(body)["digests"]
            return httpx.Response(200, json={"missing": [each for each in asked if each not in self.blobs]})
        if path.endswith("/blobs/batch"):
            for digest, data in msgpack.unpackb(body):
                assert hashlib.sha256(data).hexdigest() == digest
                self.blobs[digest] = data
            return httpx.Response(200, json={"stored": 1})
        if path.endswith("/files/failed"):
            self.lost |= {each["name"]: each for each in json.loads(body)["files"]}
            return httpx.Response(200, json={"noted": 1})
        assert path.endswith("/files"), path
        if request.method == "GET":
            names = request.url.params.get_list("names")
            return httpx.Response(200, json={"files": [self.rows[n] for n in names if n in self.rows]})
        rows = json.loads(body)["files"]
        self.rows |= {row["name"]: row for row in rows}
        outcomes = [{"name": row["name"], "outcome": "stored", "why": None} for row in rows]
        return httpx.Response(200, json={"files": outcomes})

    def _progress(self, digest: str) -> httpx.Response:
        done = digest in self.blobs
        held = self.blobs.get(digest, self.partial.get(digest, b""))
        return httpx.Response(200, json={"offset": len(held), "complete": done})

    def _take(self, digest: str, query: httpx.QueryParams, body: bytes) -> httpx.Response:
        held = self.partial.get(digest, b"")
        if int(query["offset"]) != len(held):
            return answer(409, "another offset")
        self.partial[digest] = held = held + body
        if len(held) == int(query["size"]):
            del self.partial[digest]
            if hashlib.sha256(held).hexdigest() != digest:
                return answer(422, "other bytes")
            self.blobs[digest] = held
        return self._progress(digest)


def answer(status: int, message: str = "no", **headers: str) -> httpx.Response:
    """Return an answer in the words of a server."""
    return httpx.Response(status, json={"error": {"code": "x", "message": message}}, headers=headers)


def answers(status: int, *, times: int = 1, **headers: str) -> list[Fault]:
    """Return faults that answer so many requests with a status."""
    return [lambda _: answer(status, **headers)] * times


def cut_off(_: httpx.Request) -> Exception:
    """Break the connection."""
    return httpx.ReadError("connection reset")


def passes(_: httpx.Request) -> None:
    """Give the true answer."""
