"""Wait status words and signals, by Linux's numbers. Pure."""

from __future__ import annotations

HUP, INT, ABRT, KILL, TERM = 1, 2, 6, 9, 15

#: Names by number on Linux, x86-64 and arm64 alike; the coordinator may run elsewhere.
_NAMES = {
    1: "SIGHUP", 2: "SIGINT", 3: "SIGQUIT", 4: "SIGILL", 5: "SIGTRAP", 6: "SIGABRT", 7: "SIGBUS", 8: "SIGFPE",
    9: "SIGKILL", 10: "SIGUSR1", 11: "SIGSEGV", 12: "SIGUSR2", 13: "SIGPIPE", 14: "SIGALRM", 15: "SIGTERM",
    16: "SIGSTKFLT", 17: "SIGCHLD", 18: "SIGCONT", 19: "SIGSTOP", 20: "SIGTSTP", 21: "SIGTTIN", 22: "SIGTTOU",
    23: "SIGURG", 24: "SIGXCPU", 25: "SIGXFSZ", 26: "SIGVTALRM", 27: "SIGPROF", 28: "SIGWINCH", 29: "SIGIO",
    30: "SIGPWR", 31: "SIGSYS",
}  # fmt: skip
#: A process that dies by one of these has a fault of its own: SIGILL, SIGTRAP, SIGABRT, SIGBUS, SIGFPE,
#: SIGSEGV, SIGSTKFLT, SIGSYS. By any other it was killed.
FAULTS = frozenset({4, 5, ABRT, 7, 8, 11, 16, 31})


def exit_code_of(status: int) -> int | None:
    """Return the exit code in a wait status word; None when a signal ended the process."""
    return (status >> 8) & 0xFF if status & 0x7F == 0 else None


def signal_of(status: int) -> int | None:
    """Return the signal in a wait status word that ended the process; None when it exited."""
    signum = status & 0x7F
    return signum if 0 < signum < 0x7F else None


def dumped_core(status: int) -> bool:
    """Return whether the kernel wrote a core file."""
    return signal_of(status) is not None and bool(status & 0x80)


def signal_name(signum: int) -> str:
    """Return the signal's name, e.g. SIGTERM; its number where it has none."""
    return _NAMES.get(signum) or f"signal {signum}"
