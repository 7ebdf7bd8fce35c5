"""Serves the app on a socket, in a thread of its own. In: an app, an address; out: `url`, until close()."""

from __future__ import annotations

import contextlib
import errno
import socket
import threading
import time
from typing import Any

import uvicorn

_START_TIMEOUT_S = 15.0
_STOP_TIMEOUT_S = 10.0
#: Connections kept at once; above, a request is answered 503.
_MAX_CONNECTIONS = 2000


class HttpServer:
    """One HTTP listener. `start()` returns when it serves; `close()` lets requests in flight end."""

    def __init__(self, app: Any, host: str, port: int) -> None:
        self._socket = _listen(host, port)
        self.host = host
        self.port: int = self._socket.getsockname()[1]
        self._server = uvicorn.Server(
            uvicorn.Config(
                app,
                log_config=None,
                access_log=False,
                server_header=False,
                lifespan="off",
                ws="none",
                http="h11",
                timeout_keep_alive=30,
                timeout_graceful_shutdown=3,
                limit_concurrency=_MAX_CONNECTIONS,
                proxy_headers=False,
            )
        )
        self._thread = threading.Thread(target=self._serve, name="runfold-http", daemon=True)

    @property
    def url(self) -> str:
        """Where a client on this machine reaches the server."""
        host = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(self.host, self.host)  # noqa: S104 - compared, not bound
        if ":" in host and not host.startswith("["):
            host = f"[{host}]"
        return f"http://{host}:{self.port}"

    def start(self) -> HttpServer:
        """Serve.

        Raises:
            RuntimeError: It did not come up within some seconds.
        """
        self._thread.start()
        deadline_s = time.monotonic() + _START_TIMEOUT_S
        while not self._server.started:
            if not self._thread.is_alive() or time.monotonic() > deadline_s:
                raise RuntimeError(f"the HTTP server on {self.host}:{self.port} did not start")
            time.sleep(0.005)
        return self

    def close(self) -> None:
        """Stop listening; idempotent."""
        self._server.should_exit = True
        if self._thread.is_alive():
            self._thread.join(_STOP_TIMEOUT_S)
        with contextlib.suppress(OSError):
            self._socket.close()

    def _serve(self) -> None:
        self._server.run(sockets=[self._socket])


def _listen(host: str, port: int) -> socket.socket:
    """Bind here rather than in uvicorn: a port of 0 is known before anybody is told."""
    try:
        family, kind, proto, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except OSError as error:
        raise OSError(error.errno, f"{host!r} is no address to listen on: {error.strerror}") from error
    listener = socket.socket(family, kind, proto)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(2048)
        listener.setblocking(False)
    except OSError as error:
        listener.close()
        way_out = "; choose another --port, or end who uses it" if error.errno == errno.EADDRINUSE else ""
        raise OSError(error.errno, f"can't listen on {host}:{port}: {error.strerror}{way_out}") from error
    return listener
