"""A Redis of our own: configured, started, watched and stopped as a child process.

In: a data directory. Out: `url` of a server that keeps frames until they are read (noeviction), with a
random password, on a private unix socket or a loopback port, with scripting off. Its data is disposable:
what can't be loaded is moved aside, and the agents send again what was lost.
"""

from __future__ import annotations

import contextlib
import logging
import os
import secrets
import signal
import socket
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING
from urllib.parse import quote

from runfold_coordinator.redis_binary import RedisBinary, find_redis_binary
from runfold_coordinator.redis_checks import RedisUnavailableError

if TYPE_CHECKING:
    from pathlib import Path

logger = logging.getLogger(__name__)

#: sun_path holds 108 bytes; a longer path falls back to a loopback port.
MAX_SOCKET_PATH_BYTES = 100
#: Frames wait here while the coordinator is away; above this agents keep them in their spools.
DEFAULT_MAX_MEMORY_BYTES = 512 * 1024 * 1024
START_TIMEOUT_S = 20.0
#: Words in the server's log that blame its files, not its address or its rights.
_BAD_DATA = ("append only file", "bad file format", "wrong signature", "error loading", "can't handle rdb")
_SCRIPTING = ("EVAL", "EVALSHA", "SCRIPT", "MODULE", "DEBUG")
_SCRIPTING_7 = ("EVAL_RO", "EVALSHA_RO", "FUNCTION", "FCALL", "FCALL_RO")
#: Runs in the child before exec: the server ends with us even when we are killed with -9.
_LAUNCH = (
    "import ctypes,os,sys\n"
    "try: ctypes.CDLL(None).prctl(1, 15, 0, 0, 0)\n"
    "except (OSError, AttributeError): pass\n"
    "if os.getppid() != int(sys.argv[1]): sys.exit(1)\n"
    "os.execv(sys.argv[2], sys.argv[2:])\n"
)


class EmbeddedRedis:
    """One redis-server under `data_dir/redis`, restarted with back-off when it dies. Thread-safe.

    `url` stays the same over restarts and over lives of the coordinator, so that agents find it again.
    Unfinished work: `stop()` lets the server write its append-only file; whatever is lost is sent again.
    """

    def __init__(
        self,
        data_dir: Path,
        *,
        listen: str = "socket",
        port: int | None = None,
        persistent: bool = True,
        max_memory_bytes: int = DEFAULT_MAX_MEMORY_BYTES,
        binary: RedisBinary | None = None,
        supervise: bool = True,
    ) -> None:
        """Prepare; nothing starts yet.

        Args:
            listen: "socket" for a unix socket inside the data directory, "port" for 127.0.0.1.
            port: The port for listen="port"; None takes the last one used here, else a free one.
            persistent: Keep an append-only file, synced each second.
            max_memory_bytes: At this size writes are refused with -OOM; 0 means no limit.
            supervise: Start it again when it dies.
        """
        assert listen in ("socket", "port"), listen
        self._dir = data_dir.resolve() / "redis"
        self._binary = binary
        self._persistent = persistent
        self._max_memory_bytes = max_memory_bytes
        self._supervise = supervise
        self._socket = self._dir / "redis.sock"
        use_socket = listen == "socket" and len(os.fsencode(self._socket)) <= MAX_SOCKET_PATH_BYTES
        self._wanted_port = 0 if use_socket else (port or -1)
        self._port = 0
        self._password = ""
        self._process: subprocess.Popen[bytes] | None = None
        self._watcher: threading.Thread | None = None
        self._stopping = threading.Event()
        self._started = threading.Event()
        self.restart_count = 0

    @property
    def url(self) -> str:
        """The address with its password; known after `start()`."""
        secret = quote(self._password, safe="")
        if self._port:
            return f"redis://:{secret}@127.0.0.1:{self._port}/0"
        return f"unix://:{secret}@{quote(str(self._socket))}?db=0"

    @property
    def pid(self) -> int | None:
        """The server's process id, None while there is none."""
        process = self._process
        return process.pid if process is not None and process.poll() is None else None

    @property
    def log_path(self) -> Path:
        """Where the server writes its log."""
        return self._dir / "redis.log"

    def start(self) -> EmbeddedRedis:
        """Start the server and return when it answers.

        Raises:
            RedisConfigurationError: There is no redis-server.
            RedisUnavailableError: It did not come up; the message ends with its last log lines.
        """
        self._binary = self._binary or find_redis_binary()
        self._dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._dir.chmod(0o700)
        self._password = self._password or _read_or_make(self._dir / "password", secrets.token_urlsafe(32))
        if self._wanted_port:
            self._port = self._last_port()
        self._end_leftover()
        if self._wanted_port:
            self._port = self._choose_port()
        self._stopping.clear()
        self._started.clear()
        self._failure: Exception | None = None
        # The death signal follows the thread that starts the child, so the watcher both starts and waits.
        self._watcher = threading.Thread(target=self._watch, name="runfold-redis", daemon=True)
        self._watcher.start()
        self._started.wait()
        self._raise_failure()
        return self

    def _raise_failure(self) -> None:
        if self._failure is not None:
            self.stop()
            raise self._failure

    def stop(self, *, timeout_s: float = 10.0) -> None:
        """End the server; idempotent."""
        self._stopping.set()
        process = self._process
        if process is not None and process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(signal.SIGCONT)  # a stopped process would sit on the SIGTERM
                process.terminate()
            try:
                process.wait(timeout_s)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        if self._watcher is not None and self._watcher is not threading.current_thread():
            self._watcher.join(timeout_s)
            self._watcher = None
        self._pid_file.unlink(missing_ok=True)

    def __enter__(self) -> EmbeddedRedis:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def _pid_file(self) -> Path:
        return self._dir / "redis.pid"

    def _watch(self) -> None:
        """Thread body: start, wait, start again; ends when `stop()` is called or the first start fails."""
        delay_s = 0.1
        while not self._stopping.is_set():
            try:
                self._launch()
            except Exception as error:  # noqa: BLE001 - told to start(), or retried
                if not self._started.is_set():
                    self._failure = error
                    self._started.set()
                    return
                logger.warning("the embedded Redis does not start", extra={"event": "redis_start_failed"})
            else:
                self._started.set()
                began = time.monotonic()
                assert self._process is not None, "launch() returned without a process"
                status = self._process.wait()
                if self._stopping.is_set() or not self._supervise:
                    return
                self.restart_count += 1
                if time.monotonic() - began > 10:
                    delay_s = 0.1
                logger.warning(
                    "the embedded Redis ended; starting it again",
                    extra={"event": "redis_ended", "status": status},
                )
            self._stopping.wait(delay_s)
            delay_s = min(delay_s * 2, 5.0)

    def _launch(self) -> None:
        try:
            self._launch_once()
        except RedisUnavailableError:
            blamed = any(words in self._log_tail().lower() for words in _BAD_DATA)
            if self._stopping.is_set() or not blamed or not self._move_data_aside():
                raise
            self._launch_once()

    def _launch_once(self) -> None:
        assert self._binary is not None, "start() finds the binary first"
        config = self._dir / "redis.conf"
        _write_private(config, self._config_text())
        self._socket.unlink(missing_ok=True)
        command = [
            sys.executable,
            "-I",
            "-S",
            "-c",
            _LAUNCH,
            str(os.getpid()),
            str(self._binary.path),
            str(config),
        ]
        with self.log_path.open("ab") as log:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self._dir,
                start_new_session=True,
            )
        _write_private(self._pid_file, str(self._process.pid))
        deadline = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < deadline and not self._stopping.is_set():
            if self._process.poll() is not None:
                break
            if self._answers():
                return
            time.sleep(0.01)
        loading = self._process.poll() is None and not self._stopping.is_set()
        if loading:  # a long append-only file: alive, so leave it; clients retry while it says LOADING
            return
        raise RedisUnavailableError(
            f"the embedded Redis did not start; {self.log_path} ends with:\n{self._log_tail()}"
        )

    def _answers(self) -> bool:
        try:
            with self._connect() as channel:
                channel.settimeout(1.0)
                channel.sendall(f"AUTH {self._password}\r\nPING\r\n".encode())
                answer = b""
                while answer.count(b"\r\n") < 2:
                    part = channel.recv(256)
                    if not part:
                        return False
                    answer += part
                return answer.endswith(b"+PONG\r\n")
        except OSError:
            return False

    def _connect(self) -> socket.socket:
        if self._port:
            return socket.create_connection(("127.0.0.1", self._port), timeout=1.0)
        channel = socket.socket(socket.AF_UNIX)
        try:
            channel.settimeout(1.0)
            channel.connect(str(self._socket))
        except OSError:
            channel.close()
            raise
        return channel

    def _config_text(self) -> str:
        assert self._binary is not None, "start() finds the binary first"
        off = _SCRIPTING + (_SCRIPTING_7 if self._binary.version >= (7,) else ())
        where = (
            [f"port {self._port}", "bind 127.0.0.1"]
            if self._port
            else ["port 0", f'unixsocket "{self._socket}"', "unixsocketperm 600"]
        )
        lines = [
            *where,
            f"requirepass {self._password}",
            "maxmemory-policy noeviction",
            f"maxmemory {self._max_memory_bytes}",
            f'dir "{self._dir}"',
            "daemonize no",
            'save ""',
            f"appendonly {'yes' if self._persistent else 'no'}",
            "appendfsync everysec",
            "no-appendfsync-on-rewrite yes",
            "auto-aof-rewrite-min-size 256mb",
            "tcp-keepalive 60",
            *(f'rename-command {name} ""' for name in off),
        ]
        return "\n".join(lines) + "\n"

    def _last_port(self) -> int:
        """The port that an earlier life took, so that agents find the server again."""
        if self._wanted_port > 0:
            return self._wanted_port
        saved = self._dir / "port"
        return int(saved.read_text()) if saved.exists() else _free_port()

    def _choose_port(self) -> int:
        if self._wanted_port > 0:
            return self._wanted_port
        port = self._port if _is_free(self._port) else _free_port()
        _write_private(self._dir / "port", str(port))
        return port

    def _end_leftover(self) -> None:
        """End a server that an earlier life of ours left on these files; two would spoil them."""
        try:
            pid = int(self._pid_file.read_text())
            with open(f"/proc/{pid}/cmdline", "rb") as file:
                command = file.read()
        except (OSError, ValueError):
            return
        is_server = b"redis-server" in command or b"valkey-server" in command
        # The server rewrites its title without our directory; that it knows our password tells it apart.
        if str(self._dir).encode() not in command and not (is_server and self._answers()):
            return
        for sent in (signal.SIGTERM, signal.SIGKILL):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)
                os.kill(pid, sent)
            deadline = time.monotonic() + 5
            while time.monotonic() < deadline:
                try:
                    os.kill(pid, 0)
                except ProcessLookupError:
                    return
                time.sleep(0.02)

    def _move_data_aside(self) -> bool:
        """Rename files that the server can't load; False where there was nothing to move."""
        moved = False
        for name in ("appendonlydir", "appendonly.aof", "dump.rdb"):
            path = self._dir / name
            if path.exists():
                path.rename(path.with_name(f"{name}.bad-{time.time_ns()}"))
                moved = True
        if moved:
            logger.warning(
                "the embedded Redis could not load its data, which was moved aside; agents send it again",
                extra={"event": "redis_data_moved"},
            )
        return moved

    def _log_tail(self, lines: int = 5) -> str:
        try:
            return "\n".join(self.log_path.read_text(errors="replace").splitlines()[-lines:])
        except OSError:
            return ""


def _write_private(path: Path, text: str) -> None:
    with open(path, "w", opener=lambda name, flags: os.open(name, flags, 0o600)) as file:
        file.write(text)


def _read_or_make(path: Path, text: str) -> str:
    if path.exists() and (known := path.read_text().strip()):
        return known
    _write_private(path, text)
    return text


def _is_free(port: int) -> bool:
    with socket.socket() as channel:
        channel.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            channel.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


def _free_port() -> int:
    with socket.socket() as channel:
        channel.bind(("127.0.0.1", 0))
        return int(channel.getsockname()[1])
