"""Artifacts from a script to the server and back: versions, links, models, code, parts of many processes."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import runfold
from runfold_coordinator.testing import LocalServer
from support.part_writer import content
from support.processes import environment, until

pytestmark = [pytest.mark.journey, pytest.mark.xdist_group("artifacts"), pytest.mark.timeout(240)]


@pytest.fixture(scope="module")
def server() -> Iterator[LocalServer]:
    with LocalServer() as started:
        yield started


@pytest.fixture
def env(server: LocalServer, tmp_path: Path) -> dict[str, str]:
    return environment({**server.env, "RUNFOLD_CACHE_DIR": str(tmp_path / "cache")})


def python(code: str, env: dict[str, str], cwd: Path) -> str:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        env=env, cwd=cwd, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


WALK = """
import os, time, datetime
from pathlib import Path
import runfold as wandb

Path("data/sub").mkdir(parents=True)
Path("data/a.txt").write_text("hello")
Path("data/sub/b.bin").write_bytes(os.urandom(700_000))
Path("train.py").write_text("print()")

with wandb.init(project="walk", id="walk1") as run:
    draft = wandb.Artifact("data", "dataset", description="first", metadata={"n": 1})
    draft.add_dir("data")
    with draft.new_file("notes.md") as file:
        file.write("# notes")
    draft.add_reference("file://" + os.path.abspath("train.py"), name="ref.py")
    Path("data/a.txt").write_text("changed after it was added")
    logged = run.log_artifact(draft, aliases=["best"], tags=["small"])
    assert logged is draft
    assert logged.wait(60).version == "v0"
    assert logged.name == "data:v0" and logged.qualified_name == "local/walk/data:v0"
    assert sorted(logged.aliases) == ["best", "latest"] and logged.tags == ["small"]
    assert logged.state == "COMMITTED" and not logged.is_draft() and logged.file_count == 4
    assert logged.logged_by().id == "walk1"
    assert datetime.datetime.fromisoformat(logged.created_at)

    # An unchanged artifact makes no new version; a changed one does.
    same = logged.new_draft()
    assert run.log_artifact(same, aliases=["again"]).wait(60).version == "v0"
    assert "again" in same.aliases
    changed = logged.new_draft()
    changed.remove("notes.md")
    changed.add_reference(logged.get_entry("a.txt"), name="copy.txt")
    assert run.log_artifact(changed).wait(60).version == "v1"
    assert changed.manifest.entries["copy.txt"].digest == logged.get_entry("a.txt").digest

    folder = logged.download()
    assert Path(folder) == Path("artifacts/data:v0").absolute()
    assert Path(folder, "a.txt").read_text() == "hello" and Path(folder, "ref.py").read_text() == "print()"
    logged.verify()
    Path(folder, "extra").write_text("x")
    try:
        logged.verify()
    except ValueError as error:
        assert "not a member" in str(error)
    else:
        raise AssertionError
    assert logged.checkout() == folder and not Path(folder, "extra").exists()
    Path(folder, "a.txt").write_text("HELLO")
    try:
        logged.verify()
    except ValueError as error:
        assert "Digest mismatch for file: a.txt" in str(error)
    else:
        raise AssertionError
    assert sorted(os.listdir(logged.download("part", path_prefix="sub/"))) == ["sub"]
    assert Path(logged.get_entry("sub/b.bin").download("one")).stat().st_size == 700_000
    assert [file.name for file in logged.files()] == ["a.txt", "notes.md", "ref.py", "sub/b.bin"]
    with logged.files(names=["a.txt"])[0].download("files") as file:
        assert file.read() == "hello"

    used = run.use_artifact("data:best", type="dataset")
    run.config["input"] = used
    run.config.update({"input": used, "lr": 0.1})
    assert run.config["input"] is used
    try:
        run.config["nested"] = {"deep": {"input": used}}
    except ValueError as error:
        assert "top level" in str(error)
    else:
        raise AssertionError("nested artifacts are refused")
    assert used.version == "v0"
    used.description, used.metadata["n"], used.ttl = "second", 2, datetime.timedelta(days=30)
    used.aliases.append("prod")
    used.tags = ["large"]
    used.save()
    seen = wandb.Api().artifact("local/walk/data:prod")
    assert (seen.description, seen.metadata, seen.tags) == ("second", {"n": 2}, ["large"])
    assert seen.ttl == datetime.timedelta(days=30)
    for wrong, type_ in (("data:best", "model"), ("data:nope", None), ("none:v0", None)):
        try:
            run.use_artifact(wrong, type=type_)
        except ValueError:
            continue
        raise AssertionError(wrong)
    try:
        run.log_artifact("train.py", name="data", type="model")
    except ValueError as error:
        assert "already exists with type 'dataset'" in str(error)
    else:
        raise AssertionError

    assert run.log_model("train.py", name="net", aliases=["fast"]) is None
    linked = run.link_model("train.py", "Detector", name="net", aliases=["staging"])
    assert linked.qualified_name == "local/model-registry/Detector:v0" and linked.is_link
    assert linked.source_qualified_name == "local/walk/net:v0" and "staging" in linked.aliases
    deadline_s = time.monotonic() + 60  # log_model() waits for no upload, and the link was an upload of its own
    while not wandb.Api().artifact_exists("walk/net:fast") and time.monotonic() < deadline_s:
        time.sleep(0.1)
    assert Path(run.use_model("net:fast")).read_text() == "print()"
    for call in (lambda: run.use_model("data:v0"), lambda: run.link_model("train.py", "a/b")):
        try:
            call()
        except AssertionError:
            continue
        raise RuntimeError
    portfolio = run.link_artifact(used, "shelf/best-data", aliases="gold")
    assert portfolio.qualified_name == "local/shelf/best-data:v0" and "gold" in portfolio.aliases
    code = run.log_code(exclude_fn=lambda path, root: "artifacts" in os.path.relpath(path, root)).wait(60)
    assert sorted(code.manifest.entries) == ["train.py"] and code.type == "code"
    assert run.log_code("data") is None
    by_path = run.log_artifact("data/sub").wait(60)
    assert by_path.name == "run-walk1-sub:v0" and by_path.type == "unspecified"

api = wandb.Api()
stored = api.run("walk/walk1")
assert {a.name for a in stored.logged_artifacts()} >= {"data:v0", "data:v1", "net:v0", "run-walk1-sub:v0"}
stored.use_artifact(api.artifact("walk/data:v0"), use_as="again")  # a use more, and no artifact more
names = [a.name for a in stored.used_artifacts()]
assert set(names) >= {"data:v0", "net:v0"} and len(set(names)) == len(names), names
kept = stored.config["input"]
assert (kept["_type"], kept["sequenceName"], kept["version"]) == ("artifactVersion", "data", "v0"), kept
assert [run.id for run in api.artifact("walk/data:v0").used_by()] == ["walk1"]
assert [a.version for a in api.artifacts("dataset", "walk/data")] == ["v1", "v0"]
assert len(api.artifacts("dataset", "walk/data", tags="large")) == 1
assert [t.name for t in api.artifact_types("walk")] == ["code", "dataset", "model", "unspecified"]
assert [c.name for c in api.artifact_type("dataset", "walk").collections()] == ["data"]
assert api.artifact_exists("walk/data:v1") and not api.artifact_exists("walk/data:v9")
assert api.artifact_collection_exists("walk/data", "dataset")
collection = api.artifact_collection("dataset", "walk/data")
collection.description, collection.tags = "all of it", ["mine"]
collection.save()
again = api.artifact("walk/data").collection
assert (again.description, again.tags, again.is_sequence()) == ("all of it", ["mine"], True)
assert set(again.aliases) >= {"latest", "best", "prod"} and len(again.versions()) == 2
other = api.run("walk/walk1")
assert other.use_artifact(api.artifact("walk/data:v1")).name == "data:v1"
assert other.log_artifact(api.artifact("walk/data:v1"), aliases=["later"]).name == "data:v1"
linked = api.artifact("shelf/best-data:gold")
assert linked.source_artifact.qualified_name == "local/walk/data:v0"
assert [a.qualified_name for a in linked.source_artifact.linked_artifacts] == ["local/shelf/best-data:v0"]
linked.unlink()
assert linked.source_artifact.linked_artifacts == []
version = api.artifact("walk/data:v1")
try:
    version.delete()
except ValueError:
    pass
else:
    raise AssertionError
version.delete(delete_aliases=True)
assert version.state == "DELETED" and not api.artifact_exists("walk/data:v1")
print("walked")
"""


def test_a_walk_through_everything(env: dict[str, str], tmp_path: Path) -> None:
    assert python(WALK, env, tmp_path).endswith("walked\n")


OFFLINE = """
import runfold
from pathlib import Path
Path("f").write_text("offline")
run = runfold.init(project="off", id="off1")
artifact = run.log_artifact("f", name="thing", type="dataset", aliases="one")
for call, kind in (
    (lambda: run.use_artifact("thing:v0"), TypeError),
    (lambda: run.use_model("thing:v0"), RuntimeError),
    (lambda: run.link_artifact(artifact, "x"), NotImplementedError),
    (lambda: artifact.wait(), AttributeError),
    (lambda: run.upsert_artifact("f"), TypeError),
):
    try:
        call()
    except kind:
        continue
    raise AssertionError(kind)
Path("f").write_text("changed, before it was uploaded")
run.finish()
"""


def test_what_was_logged_offline_comes_by_sync(
    server: LocalServer, env: dict[str, str], tmp_path: Path
) -> None:
    home = {"RUNFOLD_DIR": str(tmp_path / "home")}
    python(OFFLINE, {**env, **home, "RUNFOLD_MODE": "offline"}, tmp_path)
    done = subprocess.run(
        [sys.executable, "-m", "runfold", "sync"],
        env={**env, **home, "RUNFOLD_URL": server.url}, cwd=tmp_path, capture_output=True, text=True,
        timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr + done.stdout
    api = runfold.Api(url=server.url)
    artifact = until(lambda: api.artifact("off/thing:one"))
    assert Path(artifact.file(tmp_path / "got")).read_text() == "offline"
    assert [each.name for each in api.run("off/off1").logged_artifacts()] == ["thing:v0"]


KILLED = """
import runfold
with runfold.init(project="killed", id="killed1") as run:
    artifact = runfold.Artifact("thing", "dataset")
    for number in range(5):
        with artifact.new_file(f"{number}.bin", mode="wb") as file:
            file.write(b"%d" % number * (400_000 if number == 0 else 10))
    run.log_artifact(artifact)
"""


def test_an_upload_that_is_killed_anywhere_makes_one_version(
    server: LocalServer, env: dict[str, str], tmp_path: Path
) -> None:
    home = {"RUNFOLD_DIR": str(tmp_path / "home")}
    python(KILLED, {**env, **home, "RUNFOLD_MODE": "offline"}, tmp_path)

    def sync(failpoint: str) -> int:
        return subprocess.run(
            [sys.executable, "-m", "runfold", "sync"],
            env={**env, **home, "RUNFOLD_URL": server.url, "RUNFOLD_FAILPOINT": failpoint},
            cwd=tmp_path, capture_output=True, timeout=120, check=False,
        ).returncode  # fmt: skip

    steps = ("large", "blobs", "manifest", "commit")
    assert [sync(f"artifacts.after_{step}") for step in steps] == [-9] * len(steps)
    assert sync("") == 0
    found = runfold.Api(url=server.url).artifact("killed/thing")
    assert (found.version, found.file_count, len(found.collection.versions())) == ("v0", 5, 1)
    found.download(tmp_path / "got", skip_cache=True)
    found.verify(tmp_path / "got")


CHANGED = """
import runfold
from pathlib import Path
Path("f").write_text("promised")
run = runfold.init(project="bad", id="bad1")
bad = runfold.Artifact("bad", "dataset")
bad.add_file("f", policy="immutable")
Path("f").write_text("broken!!")
good = runfold.Artifact("good", "dataset")
with good.new_file("x") as file:
    file.write("x")
run.log_artifact(bad)
run.log_artifact(good)
try:
    bad.wait(60)
except ValueError as error:
    print(error)
assert good.wait(60).version == "v0"
run.log({"a": 1})
run.finish()
"""


def test_a_promised_file_that_changed_is_told_and_costs_nothing_else(
    server: LocalServer, env: dict[str, str], tmp_path: Path
) -> None:
    assert "changed after it was added" in python(CHANGED, env, tmp_path)
    run = runfold.Api(url=server.url).run("bad/bad1")
    assert run.state == "finished"
    assert [each.name for each in run.logged_artifacts()] == ["good:v0"]


def test_eight_processes_write_one_version_and_some_are_killed(
    server: LocalServer, env: dict[str, str], tmp_path: Path
) -> None:
    killed = (2, 5, 6)
    rounds = 3

    def role(rank: int) -> str:
        return "finishes" if rank == 0 else "killed" if rank in killed else "ends"

    ranks = [
        subprocess.Popen(
            [sys.executable, "-m", "support.part_writer", str(rank), str(rounds), role(rank)],
            env=env, cwd=tmp_path, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )
        for rank in range(8)
    ]  # fmt: skip
    try:
        for rank in ranks:
            assert rank.stdout is not None
            assert rank.stdout.readline() == "said\n"
        server.kill("agent")  # and everything that it was uploading; the next one goes on
        for rank in reversed(ranks):
            output, _ = rank.communicate("\n" if rank.poll() is None else None, timeout=150)
        assert output == "dist:v0\n"
    finally:
        for rank in ranks:
            if rank.poll() is None:
                rank.kill()
                rank.communicate()
    artifact = runfold.Api(url=server.url).artifact("p/dist:latest")
    wanted = {
        f"rank-{rank}/{kind}{number}.bin": content(rank, (100 if kind else 0) + number)
        for rank in range(8) for number in range(rounds) for kind in ("", "own-")
    } | {"done.txt": b"done"}  # fmt: skip
    assert artifact.incomplete is None
    assert set(artifact.manifest.entries) == set(wanted)
    folder = Path(artifact.download(tmp_path / "got", skip_cache=True))
    for name, expected in wanted.items():
        found = (folder / name).read_bytes()
        assert found == expected, name
        assert base64.b64encode(hashlib.md5(found).digest()).decode() == artifact.get_entry(name).digest
    assert artifact.version == "v0"
    assert os.listdir(folder)


def test_the_command_line_puts_lists_and_gets(
    server: LocalServer, env: dict[str, str], tmp_path: Path
) -> None:
    def command(*arguments: str) -> dict[str, Any]:
        done = subprocess.run(
            [sys.executable, "-m", "runfold", "artifact", *arguments, "--json"],
            env=env, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        found: dict[str, Any] = json.loads(done.stdout)
        return found

    (tmp_path / "set").mkdir()
    (tmp_path / "set/a").write_text("a")
    put = command("put", "set", "--name", "cli/thing", "--alias", "first")
    assert (put["name"], put["type"], put["file_count"]) == ("local/cli/thing:v0", "dataset", 1)
    assert set(put["aliases"]) == {"first", "latest"}
    assert [each["name"] for each in command("ls", "cli")["artifacts"]] == ["local/cli/thing:v0"]
    got = command("get", "cli/thing:first", "--root", "got")
    assert (tmp_path / got["path"] / "a").read_text() == "a"


def test_additions_to_the_latest_version(server: LocalServer, env: dict[str, str], tmp_path: Path) -> None:
    code = """
        import runfold as wandb
        with wandb.init(project="added", id="{run}") as run:
            for number in range({first}, {first} + 2):
                part = wandb.Artifact("growing", "dataset", incremental=True)
                with part.new_file(f"{{number}}.txt") as file:
                    file.write(str(number))
                with part.new_file("newest.txt") as file:
                    file.write(str(number))
                run.log_artifact(part).wait()
                print(part.version, part.digest, *sorted(part.manifest.entries))
    """
    first = python(textwrap.dedent(code.format(run="one", first=0)), env, tmp_path).splitlines()
    assert [line.split()[0] for line in first] == ["v0", "v1"]
    assert first[1].split()[2:] == ["0.txt", "1.txt", "newest.txt"]
    python(textwrap.dedent(code.format(run="two", first=2)), env, tmp_path)
    found = runfold.Api(url=server.url).artifact("local/added/growing:latest")
    assert (found.version, found.file_count, found.incremental) == ("v3", 5, False)
    folder = Path(found.download(tmp_path / "all", skip_cache=True))
    assert (folder / "newest.txt").read_text() == "3"
    again = runfold.Artifact("growing", "dataset")
    again.add_dir(folder)
    assert again.digest == found.digest
