"""An HTTP server that answers what a test says, and remembers what it was asked."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import msgpack

#: (status, headers, body)
Answer = tuple[int, dict[str, str], bytes]


def packed(content: Any, status: int = 200) -> Answer:
    """Return an answer as a runfold server gives it."""
    return status, {"content-type": "application/msgpack"}, msgpack.packb(content)


def refusal(status: int, code: str, message: str, **more: Any) -> Answer:
    """Return an error as a runfold server gives it."""
    error = {"code": code, "message": message, "field": None, "limit": None, "hint": None, **more}
    return status, {"content-type": "application/json"}, json.dumps({"error": error}).encode()


class CannedServer:
    """Serves on a free port until the `with` block ends."""

    def __init__(self, answer: Callable[[str, dict[str, str]], Answer]) -> None:
        asked = self.asked = []  # type: list[str]

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                asked.append(self.path)
                status, headers, body = answer(self.path, {k.lower(): v for k, v in self.headers.items()})
                if status == 0:  # go away without an answer
                    self.close_connection = True
                    return
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("content-length", str(len(body)))
                with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # it did not wait for us
                    self.end_headers()
                    self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})

    def __enter__(self) -> CannedServer:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
