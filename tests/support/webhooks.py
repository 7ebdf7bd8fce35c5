"""A receiver of webhooks for tests: a real HTTP(S) server that keeps what it got, and answers as it is told."""

from __future__ import annotations

import json
import ssl
import threading
import time
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass(frozen=True)
class Received:
    """One request: its headers in lower case."""

    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def document(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.body)
        return found

    @property
    def delivery(self) -> str:
        return self.headers["runfold-delivery"]


class WebhookServer:
    """A context manager. `answers` are given in turn, then 200: a status, or what to do instead.

    "hang": no answer until the end. "drip": a header byte every 50 ms. "redirect": 307 to /redirected.
    """

    def __init__(
        self, *answers: int | str, tls: ssl.SSLContext | None = None, host: str = "127.0.0.1"
    ) -> None:
        self.received: list[Received] = []
        #: Connections, whether a request came over them or not.
        self.hits = 0
        self._answers = list(answers)
        self._ended = threading.Event()
        self._lock = threading.Lock()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("content-length", 0)))
                headers = {name.lower(): value for name, value in self.headers.items()}
                with outer._lock:
                    outer.received.append(Received(self.path, headers, body))
                    answer = outer._answers.pop(0) if outer._answers else 200
                outer._answer(self, answer)

            do_GET = do_POST

            def log_message(self, *_: object) -> None:
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = True

            def get_request(self) -> Any:
                outer.hits += 1
                return super().get_request()

            def handle_error(
                self, *_: object
            ) -> None:  # a client that went away is what some tests are about
                pass

        self._server = Server((host, 0), Handler)
        if tls is not None:
            self._server.socket = tls.wrap_socket(
                self._server.socket, server_side=True, do_handshake_on_connect=False
            )
        self.port = self._server.server_port
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)

    def _answer(self, request: BaseHTTPRequestHandler, answer: int | str) -> None:
        if answer == "hang":
            self._ended.wait(60)
        elif answer == "drip":
            request.wfile.write(b"HTTP/1.1 200 OK\r\nX: ")
            while not self._ended.is_set():
                request.wfile.write(b"x")
                time.sleep(0.05)
        elif answer == "redirect":
            request.send_response(307)
            request.send_header("Location", f"http://127.0.0.1:{self.port}/redirected")
            request.end_headers()
        else:
            request.send_response(int(answer), "secret words of the other side")
            request.send_header("Content-Length", "0")
            request.end_headers()

    def __enter__(self) -> WebhookServer:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(5)
