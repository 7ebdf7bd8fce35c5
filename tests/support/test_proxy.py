"""The proxy cuts, resets and heals as it says."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator

import pytest

from support.proxy import Proxy


@pytest.fixture
def echo() -> Iterator[int]:
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        while True:
            try:
                channel, _ = listener.accept()
            except OSError:
                return
            with channel:
                try:
                    while part := channel.recv(4096):
                        channel.sendall(part)
                except OSError:
                    continue

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    yield listener.getsockname()[1]
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()
    thread.join(5)


def ask(port: int, timeout_s: float = 2.0) -> bytes:
    with socket.create_connection(("127.0.0.1", port), timeout=timeout_s) as channel:
        channel.sendall(b"hello")
        return channel.recv(100)


def test_it_forwards_cuts_resets_and_heals(echo: int) -> None:
    with Proxy("127.0.0.1", echo) as proxy:
        assert ask(proxy.port) == b"hello"
        proxy.cut()
        with pytest.raises(TimeoutError):
            ask(proxy.port, 0.2)
        proxy.heal()
        assert ask(proxy.port) == b"hello"
        proxy.cut("replies")
        with pytest.raises(TimeoutError):
            ask(proxy.port, 0.2)
        proxy.refuse()
        with pytest.raises(OSError):
            assert ask(proxy.port) == b"hello"
        proxy.heal()
        assert ask(proxy.port) == b"hello"
        assert proxy.forwarded_bytes > 0
