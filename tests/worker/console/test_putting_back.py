"""The originals are put back by a thread that lets no other one of Python run meanwhile."""

from __future__ import annotations

import subprocess
import sys

from support.processes import environment

#: The original is a pipe that is full, and a thread of the same process is to read it, as in a notebook.
FULL = """
import os, threading
from runfold.console.diversion import divert, put_back_in_order
from runfold.console.stdio import Output

reads, fd = os.pipe()
full = 0
os.set_blocking(fd, False)
try:
    while True:
        full += os.write(fd, b"x" * 4096)
except BlockingIOError:
    pass
os.set_blocking(fd, {is_blocking})
diversion, writing = divert(Output("stdout", (fd,), is_terminal=False))
os.dup2(writing, fd)
os.close(writing)
os.write(fd, b"y" * 100_000)
found = bytearray()

def read():
    while len(found) < full + 100_001:
        found.extend(os.read(reads, 65536))

thread = threading.Thread(target=read)
threading.Timer(0.5, thread.start).start()
put_back_in_order([diversion])
waiting = bytearray()
os.set_blocking(diversion.reading, False)
while len(waiting) < 100_000:  # what nobody took is still there for who passes it on
    try:
        waiting += os.read(diversion.reading, 65536)
    except BlockingIOError:
        break
os.set_blocking(fd, True)
for data in (waiting, b"z"):
    while data:
        data = data[os.write(fd, data):]
thread.join()
assert bytes(found) == b"x" * full + b"y" * 100_000 + b"z"
"""


def test_nobody_waits_for_a_full_original_with_the_interpreter_in_hand() -> None:
    for is_blocking in (True, False):
        code = FULL.format(is_blocking=is_blocking)
        done = subprocess.run(
            [sys.executable, "-c", code],
            env=environment({}),
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        assert done.returncode == 0, done.stderr
