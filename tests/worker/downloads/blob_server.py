"""A server of blobs that can misbehave in the ways that a real one can't be made to."""

from __future__ import annotations

import hashlib
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Self

import msgpack


class BlobServer:
    """GET /api/v1/blobs/{sha256} with Range.

    Attributes:
        cut_after: Answers are cut after so many bytes, while `cuts` last.
        ignores_range: Answers begin at byte 0 with status 200.
        lies: The content's last byte is another one, so often.
        gives: Contents in one answer to a question for many.
        asked: (digest, Range header) of each request.
    """

    def __init__(self, *contents: bytes) -> None:
        self.contents = {hashlib.sha256(content).hexdigest(): content for content in contents}
        self.cut_after, self.cuts, self.lies = 0, 0, 0
        self.ignores_range = False
        self.busy, self.gives = 0, 1000
        self.asked: list[tuple[str, str | None]] = []
        stage = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                stage._answer(self)

            def do_POST(self) -> None:
                stage._answer_many(self)

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def _answer(self, request: BaseHTTPRequestHandler) -> None:
        sha256, asked_range = request.path.rpartition("/")[2], request.headers.get("Range")
        self.asked.append((sha256, asked_range))
        if self.busy:
            self.busy -= 1
            request.send_response(503)
            request.send_header("Content-Length", "0")
            request.end_headers()
            return
        content = self.contents[sha256]
        if self.lies:
            self.lies -= 1
            content = content[:-1] + bytes([content[-1] ^ 1])
        offset = int(asked_range[6:-1]) if asked_range and not self.ignores_range else 0
        request.send_response(206 if offset else 200)
        request.send_header("Content-Length", str(len(content) - offset))
        request.end_headers()
        if self.cuts:
            self.cuts -= 1
            request.wfile.write(content[offset : offset + self.cut_after])
            request.wfile.flush()
            request.close_connection = True
            return
        request.wfile.write(content[offset:])

    def _answer_many(self, request: BaseHTTPRequestHandler) -> None:
        """POST /api/v1/blobs/read, as far as the server has them."""
        digests = json.loads(request.rfile.read(int(request.headers["Content-Length"])))["digests"]
        self.asked.append(("many", None))
        found = [
            (sha256, self.contents[sha256]) for sha256 in digests[: self.gives] if sha256 in self.contents
        ]
        if self.lies:
            self.lies -= 1
            found = [(sha256, b"!" + content) for sha256, content in found]
        body = msgpack.packb(found)
        request.send_response(200)
        request.send_header("Content-Type", "application/msgpack")
        request.send_header("Content-Length", str(len(body)))
        request.end_headers()
        request.wfile.write(body)

    def __enter__(self) -> Self:
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
