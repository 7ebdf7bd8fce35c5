"""Files of runs, from save() to the reader's disk, while what carries them is killed."""

from __future__ import annotations

import contextlib
import hashlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import runfold
from runfold.protocol.content_sum import md5_of
from runfold_coordinator.testing import LocalServer
from support.processes import environment, finish, until

#: What every program begins with: a run in its working directory, and a way to die like by `kill -9`.
BEGIN = """
import os, runfold, signal, sys, time
from pathlib import Path
run = runfold.init(project="files", id=sys.argv[1], settings={"finish_timeout": 60.0})
def write(name, text):
    Path(name).parent.mkdir(parents=True, exist_ok=True)
    Path(name).write_text(text)
"""


def begin(
    program: str, run_id: str, server: LocalServer, folder: Path, *arguments: object, **env: str
) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", BEGIN + program, run_id, *map(str, arguments)],
        env=environment({**server.env, **env}),
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def stored(server: LocalServer, run_id: str) -> Any:
    return runfold.Api(server.url).run(f"local/files/{run_id}")


def contents(server: LocalServer, run_id: str, root: Path) -> dict[str, str]:
    """Download all files of a run anew, and return what they hold."""
    found = {}
    for file in stored(server, run_id).files():
        with file.download(root, replace=True) as opened:
            found[file.name] = opened.read()
    return found


def digests(server: LocalServer, run_id: str) -> dict[str, str]:
    return {file.name: file.sha256 for file in stored(server, run_id).files(per_page=1000)}


def hashed(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def die_at(server: LocalServer, failpoint: str) -> None:
    """Have an agent work until it comes to a step, and is killed there."""
    server.restart("agent", failpoint=failpoint)
    assert server._agents[-1].wait(60) == -signal.SIGKILL


@pytest.fixture
def own_server() -> Iterator[LocalServer]:
    """Parts of it are killed."""
    with LocalServer() as started:
        yield started


SAVES = """
write("d/e/f.txt", "early")
assert run.save("d/e/f.txt") == [os.path.join(run.dir, "d/e/f.txt")]
write("end.txt", "early")
run.save("end.txt", policy="end")
write("now.txt", "early")
run.save("now.txt", policy="now")
write(os.path.join(run.dir, "mine.txt"), "mine")
run.log({"loss": 1.0})
until = time.monotonic() + 60
while run.status().uploads_pending != 3 and time.monotonic() < until:
    time.sleep(0.05)
for name in ("d/e/f.txt", "end.txt", "now.txt"):
    write(name, "late")
"""


def test_each_policy_uploads_what_it_says(server: LocalServer, name: str, tmp_path: Path) -> None:
    program = SAVES + "run.finish()\nprint(runfold.restore('end.txt', run.path).read())"
    assert finish([begin(program, name, server, tmp_path)]) == ["late\n"]
    wanted = {"d/e/f.txt": "late", "end.txt": "late", "mine.txt": "mine", "now.txt": "early"}
    assert contents(server, name, tmp_path / "new") == wanted
    run = stored(server, name)
    assert {file.name: file.policy for file in run.files()} == {
        "d/e/f.txt": "live",
        "end.txt": "end",
        "mine.txt": "now",
        "now.txt": "now",
    }
    assert len(run.files(state="pending")) == 0


def test_a_killed_trainers_files_come_as_it_left_them(server: LocalServer, name: str, tmp_path: Path) -> None:
    process = begin(SAVES + "os.kill(os.getpid(), signal.SIGKILL)", name, server, tmp_path)
    process.communicate(timeout=60)
    assert process.returncode == -signal.SIGKILL
    wanted = {"d/e/f.txt": "late", "end.txt": "late", "mine.txt": "mine", "now.txt": "early"}
    until(lambda: digests(server, name).keys() == wanted.keys())
    until(lambda: contents(server, name, tmp_path / "new") == wanted)


def test_the_public_run_takes_and_gives_files(server: LocalServer, name: str, tmp_path: Path) -> None:
    finish([begin("run.finish()", name, server, tmp_path)])
    run = stored(server, name)
    place = tmp_path / "sub" / "model.bin"
    place.parent.mkdir()
    place.write_bytes(b"weights" * 100)
    file = run.upload_file(place, root=tmp_path)
    assert (file.name, file.size, file.md5) == ("sub/model.bin", 700, md5_of(b"weights" * 100))
    assert file.mimetype == "application/octet-stream"
    assert file.updated_at > "2020"
    assert file.url.startswith(f"{server.url}/api/v1/runs/local/files/{name}/files/content?name=sub%2F")
    assert [each.name for each in run.files(pattern="sub/%")] == ["sub/model.bin"]
    with file.download(tmp_path / "new") as opened:
        assert Path(opened.name) == tmp_path / "new/sub/model.bin"
        assert opened.read() == "weights" * 100
    with pytest.raises(ValueError, match="replace=True"):
        file.download(tmp_path / "new")
    file.download(tmp_path / "new", exist_ok=True).close()
    file.delete()
    with pytest.raises(runfold.api.NotFoundError, match="has no file"):
        run.file("sub/model.bin")
    with pytest.raises(FileNotFoundError):
        run.upload_file(tmp_path / "no", root=tmp_path)
    with pytest.raises(ValueError, match="a part of it is"):
        run.upload_file(place, root=tmp_path / "elsewhere")


LATER = 'write("a/small.txt", "small")\nrun.save("a/*", policy="now")\nrun.save("large.bin", policy="now")\n'


@pytest.mark.parametrize(
    "failpoint", ["uploads.after_piece:2", "uploads.after_blob", "uploads.after_commit", "uploads.before_end"]
)
def test_an_agent_killed_between_any_two_steps_loses_nothing(
    failpoint: str, server: LocalServer, name: str, tmp_path: Path
) -> None:
    (tmp_path / "large.bin").write_bytes(os.urandom(34_000_000))
    server.kill("agent")
    finish([begin(LATER + "os._exit(0)", name, server, tmp_path, RUNFOLD_AGENT="none")])
    die_at(server, failpoint)
    outbox = next(server.runfold_dir.glob("spool/*/uploads"))
    assert list(outbox.glob("*.job")), "it was to die before it was done"
    server.restart("agent")
    wanted = {
        "a/small.txt": hashlib.sha256(b"small").hexdigest(),
        "large.bin": hashed(tmp_path / "large.bin"),
    }
    until(lambda: digests(server, name) == wanted)
    until(lambda: not list(outbox.glob("*.job")))
    stored(server, name).file("large.bin").download(tmp_path / "new").close()
    assert hashed(tmp_path / "new/large.bin") == wanted["large.bin"]


def test_files_arrive_whole_though_everything_is_killed_again_and_again(
    own_server: LocalServer, name: str, tmp_path: Path
) -> None:
    for number in range(12):
        (tmp_path / f"{number}.bin").write_bytes(os.urandom(6_000_000))
    program = """
for number in range(12):
    run.save(f"{number}.bin", policy="now")
    run.log({"n": number})
    time.sleep(0.25)
time.sleep(60)
"""
    process = begin(program, name, own_server, tmp_path)
    wanted = {f"{number}.bin": hashed(tmp_path / f"{number}.bin") for number in range(12)}
    try:
        until(lambda: list(own_server.runfold_dir.glob("spool/*/uploads/*.job")))
        for number in range(4):
            own_server.kill("agent")
            if number % 2:
                own_server.kill("coordinator")
                own_server.restart("coordinator")
            with contextlib.suppress(runfold.CommError):
                until(lambda seen=number: len(digests(own_server, name)) > 2 * seen)  # type: ignore[misc]
        until(lambda: len(list(own_server.runfold_dir.glob("spool/*/uploads/*.job"))) < 6)
    finally:
        process.kill()
        process.communicate()
    own_server.kill("agent")
    own_server.restart("agent")
    until(lambda: digests(own_server, name) == wanted)
    for file in stored(own_server, name).files():
        file.download(tmp_path / "new").close()
        assert hashed(tmp_path / "new" / file.name) == wanted[file.name]


def test_an_agent_killed_midway_through_a_large_file_goes_on_from_there(
    server: LocalServer, name: str, tmp_path: Path
) -> None:
    size, pieces = 200_000_000, 7
    with (tmp_path / "large.bin").open("wb") as file:
        for _ in range(size // 1_000_000):
            file.write(os.urandom(1_000_000))
    server.kill("agent")
    finish([begin(LATER + "os._exit(0)", name, server, tmp_path, RUNFOLD_AGENT="none")])
    connection, digest = runfold.Api(server.url)._connection, hashed(tmp_path / "large.bin")
    for sent in (pieces, 11 - pieces):  # one more, and a bit, is left
        die_at(server, f"uploads.after_piece:{sent}")
        offset = connection.get(f"/blobs/{digest}/upload")["offset"]
        assert offset == (pieces if sent == pieces else 11) * 16 * 1024 * 1024
    server.restart("agent")
    until(lambda: digests(server, name).get("large.bin") == digest)


def test_two_thousand_small_files_are_saved_in_a_moment(
    server: LocalServer, name: str, tmp_path: Path
) -> None:
    for number in range(2000):
        (tmp_path / f"{number}.txt").write_text(f"file {number}")
    program = 'began = time.monotonic()\nfound = run.save("*.txt", policy="now")\n'
    program += "print(len(found), time.monotonic() - began)\nrun.finish()\nprint(run.id)"
    output = finish([begin(program, name, server, tmp_path)])[0].split()
    assert output[0] == "2000"
    assert float(output[1]) < 10.0
    assert digests(server, name) == {
        f"{number}.txt": hashlib.sha256(f"file {number}".encode()).hexdigest() for number in range(2000)
    }


def test_a_thread_of_the_trainer_uploads_where_it_may_have_no_children(
    server: LocalServer, name: str, tmp_path: Path
) -> None:
    program = 'write("a.txt", "a")\nrun.save("a.txt")\nwrite("a.txt", "b")\nrun.finish()'
    finish([begin(program, name, server, tmp_path, RUNFOLD_AGENT="thread")])
    assert contents(server, name, tmp_path / "new") == {"a.txt": "b"}


def test_offline_files_wait_for_sync(server: LocalServer, name: str, tmp_path: Path) -> None:
    home = str(tmp_path / "home")
    program = 'write("a.txt", "a")\nrun.save("a.txt")\nwrite(os.path.join(run.dir, "b.txt"), "b")\n'
    program += (
        'write("gone.txt", "g")\nrun.save("gone.txt", policy="now")\nPath("gone.txt").unlink()\nrun.finish()'
    )
    offline = {"RUNFOLD_MODE": "offline", "RUNFOLD_DIR": home}
    finish([begin(program, name, server, tmp_path, **offline)])
    done = sync(server, home)
    assert done.returncode == 1, done.stderr
    assert "1 were given up" in done.stdout
    assert contents(server, name, tmp_path / "new") == {"a.txt": "a", "b.txt": "b"}
    assert [file.name for file in stored(server, name).files(state="failed")] == ["gone.txt"]
    assert sync(server, home).returncode == 0


def sync(server: LocalServer, home: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "runfold", "sync", "--url", server.url],
        env=environment({"RUNFOLD_DIR": home}),
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )
