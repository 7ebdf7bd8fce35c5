"""A TCP proxy whose line can be cut, stalled, reset or slowed: partitions without root."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import struct
import threading


class Proxy:
    """Forwards a loopback port to (host, port); a context manager with a thread and an event loop of its own.

    `cut()`: bytes vanish in both directions and new connections hang, as behind a dropping firewall.
    `cut("replies")`: only the way back is dead: requests arrive, answers are lost. `refuse()`: connections are
    reset. `heal()`: all is well again (what was swallowed stays lost: the connections are reset).
    """

    def __init__(self, host: str, port: int, *, tls: ssl.SSLContext | None = None) -> None:
        """`tls`: clients speak TLS to the proxy; the target gets the plain bytes."""
        self._target = (host, port)
        self._tls = tls
        self._state = "open"
        self._loop = asyncio.new_event_loop()
        self._writers: set[asyncio.StreamWriter] = set()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self.port = 0
        self.forwarded_bytes = 0

    def __enter__(self) -> Proxy:
        self._thread.start()
        self.port = asyncio.run_coroutine_threadsafe(self._serve(), self._loop).result(10)
        return self

    def __exit__(self, *_: object) -> None:
        asyncio.run_coroutine_threadsafe(self._close(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    def cut(self, what: str = "both") -> None:
        """Swallow bytes: "both" directions, or only "replies"."""
        self._state = what

    def refuse(self) -> None:
        """Reset what is open, and every new connection."""
        self._state = "refuse"
        self._loop.call_soon_threadsafe(self._reset_all)

    def heal(self) -> None:
        """Forward again; connections that lost bytes are reset."""
        swallowed = self._state != "open"
        self._state = "open"
        if swallowed:
            self._loop.call_soon_threadsafe(self._reset_all)

    async def _serve(self) -> int:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0, ssl=self._tls)
        return int(self._server.sockets[0].getsockname()[1])

    async def _close(self) -> None:
        self._server.close()
        self._reset_all()
        for task in asyncio.all_tasks(self._loop) - {asyncio.current_task(self._loop)}:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        other: asyncio.StreamWriter | None = None
        try:
            if self._state == "refuse":
                return
            while self._state == "both":  # a dropping firewall: the connection neither opens nor fails
                await asyncio.sleep(0.02)
            back, other = await asyncio.open_connection(*self._target)
            self._writers.add(other)
            await asyncio.wait(
                [
                    asyncio.ensure_future(self._pump(reader, other, "requests")),
                    asyncio.ensure_future(self._pump(back, writer, "replies")),
                ],
                return_when=asyncio.FIRST_COMPLETED,
            )
        except OSError:
            pass
        finally:
            for side in (writer, other):
                if side is not None:
                    self._reset(side)

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, way: str) -> None:
        with contextlib.suppress(OSError):
            while part := await reader.read(65536):
                if self._state in ("both", way):
                    continue
                self.forwarded_bytes += len(part)
                writer.write(part)
                await writer.drain()

    def _reset_all(self) -> None:
        for writer in list(self._writers):
            self._reset(writer)

    def _reset(self, writer: asyncio.StreamWriter) -> None:
        self._writers.discard(writer)
        channel = writer.get_extra_info("socket")
        if channel is not None:
            with contextlib.suppress(OSError):
                channel.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        writer.transport.abort()
