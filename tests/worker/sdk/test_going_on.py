"""init(resume=, resume_from=, fork_from=) against a server that answers, one that does not, and none at all."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import runfold
from runfold import deleted_run, going_on, resume_question
from runfold.errors import AuthenticationError, CommError, UsageError
from runfold.protocol.branching import Branch
from runfold.protocol.errors import DecodeError
from runfold.protocol.identity import Identity
from worker.api.canned import Answer, CannedServer, packed, refusal
from worker.sdk.conftest import raised

KNOWN: dict[str, Any] = {
    "exists": True,
    "joined": False,
    "last_step": 9,
    "runtime_s": 100.0,
    "after_unix_ns": 5,
    "pending": 0,
    "live": [],
    "fork": None,
    "name": "mine",
    "notes": "n",
    "tags": ["a"],
    "group": "g",
    "job_type": None,
    "config": {"lr": 1, "seed": 7},
    "left_out": [],
    "summary": {"loss": 0.5, "best": 1},
}


@pytest.fixture
def answers() -> dict[str, Any]:
    """What the server says of runs."""
    return dict(KNOWN)


@pytest.fixture
def server(answers: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> Iterator[CannedServer]:
    def answer(path: str, _: dict[str, str]) -> Answer:
        if "/summary" in path:
            return packed({"summary": {"loss": 2.0, "nested": {"a": 1, "b": 2}, "best": 5}})
        return packed(answers) if "status" not in answers else refusal(answers["status"], "x", "no")

    with CannedServer(answer) as canned:
        monkeypatch.setenv("RUNFOLD_MODE", "online")
        monkeypatch.setenv("RUNFOLD_AGENT", "none")
        monkeypatch.setenv("RUNFOLD_FINISH_TIMEOUT", "0")
        monkeypatch.setenv("RUNFOLD_URL", canned.url)
        yield canned


def test_a_resumed_run_goes_on_under_what_is_said_anew(server: CannedServer) -> None:
    began = time.time()
    run = runfold.init(project="p", id="r", resume="allow", config={"lr": 2}, notes="new")
    assert run.resumed and (run.starting_step, run.step) == (10, 10)
    assert run.config.as_dict() == {"lr": 2, "seed": 7}
    assert (run.name, run.notes, run.tags, run.group) == ("mine", "new", ("a",), "g")
    assert began - 101 < run.start_time < time.time() - 99
    with pytest.raises(runfold.errors.ConfigError):
        run.config.update({"seed": 8})
    run.log({"loss": 1.0})
    assert run.step == 11
    assert run.history[0]["_step"] == 10 and run.history[0]["_runtime"] >= 100
    assert sum("/resume?" in path for path in server.asked) == 1


def test_what_was_inherited_is_not_said_again(server: CannedServer, spool: Any) -> None:
    runfold.init(project="p", id="r", resume="allow", config={"lr": 2})
    identity = spool().identity
    assert identity.config == {"_wandb": {}, "lr": 2} and identity.tags == () and identity.notes is None
    assert identity.branch == Branch("resume", "r", 9, 5, 100.0) and identity.start_step == 10


def test_the_summary_before_lies_under_the_one_since(server: CannedServer) -> None:
    run = runfold.init(project="p", id="r", resume="allow")
    assert (run.summary["loss"], run.summary["best"]) == (2.0, 5)
    run.log({"loss": 1.0, "nested": {"b": 3}})
    del run.summary["best"]
    run.summary["own"] = 1
    seen = {key: run.summary[key] for key in ("loss", "own")}
    assert seen == {"loss": 1.0, "own": 1} and "best" not in run.summary.keys()
    assert run.summary.get("nested") == {"a": 1, "b": 3}
    run.summary["nested"] = 4
    assert run.summary["nested"] == 4


def test_a_run_that_does_not_exist_begins(server: CannedServer, answers: dict[str, Any]) -> None:
    answers |= {"exists": False}
    run = runfold.init(project="p", id="r", resume="allow")
    assert not run.resumed and run.starting_step == 0
    run.finish()
    assert not runfold.init(project="p", id="r2", resume="never").resumed
    with pytest.raises(UsageError, match="does not exist"):
        runfold.init(project="p", id="r3", resume="must", reinit="create_new")


def test_never_refuses_what_exists(server: CannedServer) -> None:
    with pytest.raises(UsageError, match="exists already"):
        runfold.init(project="p", id="r", resume="never")
    assert runfold.run is None


def test_who_asks_for_nothing_asks_nobody(server: CannedServer) -> None:
    runfold.init(project="p")
    assert server.asked == []


def test_an_id_that_is_given_is_looked_up_once(
    server: CannedServer, answers: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    for nothing_to_tell in ({}, {"status": 404}, {"status": 500}, {"status": 401}):
        answers.clear()
        answers |= {"exists": False, **nothing_to_tell}
        runfold.init(project="p", id="r").finish()
        (asked,) = server.asked
        assert asked.endswith("/runs/local/p/r/resume?kind=begin")
        server.asked.clear()
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    runfold.init(project="p", id="r", mode="shared").finish()  # rank 0 asks for all
    assert server.asked == []


@pytest.mark.parametrize(
    "said",
    [
        {"id": "r"},
        *({"id": "r", "resume": how} for how in ("allow", "must", "never", "auto")),
        {"resume_from": "r?_step=2"},
        {"id": "r", "fork_from": "x?_step=2"},
    ],
    ids=lambda said: "-".join(said) + said.get("resume", ""),
)
def test_a_run_that_was_deleted_is_not_begun_again(
    server: CannedServer,
    answers: dict[str, Any],
    said: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    answers.clear()
    answers |= {"exists": False, "joined": False, "deleted": True}
    with pytest.raises(CommError, match="runfold undelete local/p/r"):
        runfold.init(project="p", **said)
    assert runfold.run is None
    monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", "1")
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "job")
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "1")
    if said.get("resume") != "must":
        runfold.init(project="p", **said).finish()  # deleted while the job goes on: it is not harmed
        assert "runfold undelete local/p/r" in capsys.readouterr().err


def test_a_server_that_is_away_does_not_hold_up_who_asks_for_nothing(
    monkeypatch: pytest.MonkeyPatch, server: CannedServer
) -> None:
    monkeypatch.setattr(deleted_run, "PATIENCE_S", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as mute:
        monkeypatch.setenv("RUNFOLD_URL", f"http://127.0.0.1:{mute.getsockname()[1]}")
        runfold.init(project="p", id="r").finish()
    runfold.init(project="p", id="r").finish()  # nobody listens there any more


@pytest.mark.parametrize(
    "answer",
    [b"\x00nonsense\r\n\r\n", b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n\xdd\xff\xff\xff\xff", None],
    ids=["no-http", "no-msgpack", "byte-by-byte"],
)
def test_an_answer_that_is_nonsense_is_none(
    monkeypatch: pytest.MonkeyPatch, server: CannedServer, answer: bytes | None
) -> None:
    monkeypatch.setattr(deleted_run, "PATIENCE_S", 0.5)

    def serve(listening: socket.socket) -> None:
        connection, _ = listening.accept()
        with connection, contextlib.suppress(OSError):
            connection.recv(10_000)
            connection.sendall(answer or b"HTTP/1.1 200 OK\r\ncontent-length: 60000\r\n\r\n")
            while answer is None:  # until nobody reads any more
                connection.sendall(b"\x90")
                time.sleep(0.05)

    with socket.create_server(("127.0.0.1", 0)) as listening:
        serving = threading.Thread(target=serve, args=(listening,))
        serving.start()
        monkeypatch.setenv("RUNFOLD_URL", f"http://127.0.0.1:{listening.getsockname()[1]}")
        runfold.init(project="p", id="r").finish()
        serving.join(30)
        assert not serving.is_alive()


def test_an_address_that_can_be_none_and_a_process_without_threads_begin_runs_too(
    monkeypatch: pytest.MonkeyPatch, server: CannedServer, answers: dict[str, Any]
) -> None:
    answers |= {"exists": False, "deleted": True}
    monkeypatch.setenv("RUNFOLD_URL", "http://127.0.0.1:99999")
    runfold.init(project="p", id="r").finish()

    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setenv("RUNFOLD_URL", server.url)
    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", refuse)
        for resume in (None, "allow"):
            runfold.init(project="p", id="r", resume=resume).finish()


def test_a_new_id_that_was_made_here_has_no_past(server: CannedServer) -> None:
    assert not runfold.init(project="p", resume="allow").resumed
    assert server.asked == []


def test_old_processes_that_live_are_named(
    server: CannedServer, answers: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    answers["live"] = [{"rank": None, "label": None, "host": "far", "pid": 4711, "state": "running"}] * 6
    runfold.init(project="p", id="r", resume="allow")
    told = capsys.readouterr().err
    assert "far:4711" in told and "and 2 more" in told and "step 10" in told


@pytest.mark.parametrize("status", [404, 500, 503])
def test_an_answer_that_is_none_lets_allow_go_on(
    server: CannedServer,
    answers: dict[str, Any],
    status: int,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(going_on, "PATIENCE_S", 0.3)
    monkeypatch.setattr(going_on, "PATIENCE_OF_MUST_S", 0.3)
    answers["status"] = status
    assert not runfold.init(project="p", id="r", resume="allow").resumed
    assert "could not be looked up" in capsys.readouterr().err
    with pytest.raises(CommError, match="resume='allow'"):
        runfold.init(project="p", id="q", resume="must", reinit="finish_previous")


def test_a_wrong_key_is_named_at_once(server: CannedServer, answers: dict[str, Any]) -> None:
    answers["status"] = 401
    began = time.monotonic()
    with pytest.raises(CommError, match="RUNFOLD_API_KEY") as caught:
        runfold.init(project="p", id="r", resume="must")
    assert time.monotonic() - began < resume_question.PATIENCE_OF_MUST_S
    assert isinstance(caught.value.__cause__, AuthenticationError)


def test_an_answer_of_another_shape_is_no_answer(server: CannedServer, answers: dict[str, Any]) -> None:
    answers["last_step"] = "ten"
    with pytest.raises(CommError, match="another version"):
        runfold.init(project="p", id="r", resume="must")
    assert not runfold.init(project="p", id="r", resume="allow").resumed


def test_a_server_that_takes_and_says_nothing_does_not_hold_init_up(
    monkeypatch: pytest.MonkeyPatch, server: CannedServer
) -> None:
    monkeypatch.setattr(going_on, "PATIENCE_S", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as mute:
        monkeypatch.setenv("RUNFOLD_URL", f"http://127.0.0.1:{mute.getsockname()[1]}")
        began = time.monotonic()
        assert not runfold.init(project="p", id="r", resume="allow").resumed
        assert time.monotonic() - began < 5


def test_a_name_that_is_looked_up_for_ever_does_not_either(
    monkeypatch: pytest.MonkeyPatch, server: CannedServer
) -> None:
    monkeypatch.setattr(going_on, "PATIENCE_S", 0.2)
    monkeypatch.setattr(resume_question, "_GRACE_S", 0.1)
    is_over = threading.Event()
    monkeypatch.setattr(resume_question.Question, "_get", lambda *_: is_over.wait(100))
    began = time.monotonic()
    try:
        assert not runfold.init(project="p", id="r", resume="allow").resumed
        assert time.monotonic() - began < 50
    finally:
        is_over.set()


def test_without_an_http_address_must_says_what_to_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RUNFOLD_MODE", "online")
    monkeypatch.setenv("RUNFOLD_AGENT", "none")
    monkeypatch.setenv("RUNFOLD_FINISH_TIMEOUT", "0")
    monkeypatch.setenv("RUNFOLD_REDIS_URL", "redis://127.0.0.1:9")
    with pytest.raises(CommError, match="RUNFOLD_URL"):
        runfold.init(project="p", id="r", resume="must")


def test_a_rewind_takes_the_runs_words_and_a_fork_does_not(server: CannedServer, spools: Any) -> None:
    run = runfold.init(project="p", resume_from="r?_step=4")
    assert run.resumed and (run.id, run.starting_step, run.step) == ("r", 5, 0)
    assert run.config.as_dict() == {"lr": 1, "seed": 7} and run.tags == ("a",)
    assert {key: run.summary[key] for key in run.summary.keys()} == {"loss": 0.5, "best": 1}
    run.log({"a": 1})
    assert run.step == 6
    run.finish()
    fork = runfold.init(project="p", id="f", fork_from="r?_step=4")
    assert not fork.resumed and fork.starting_step == 5 and fork.config.as_dict() == {}
    fork.log({"a": 1})
    kinds = {spooled.identity.run_id: spooled.identity.branch for spooled in spools()}
    assert kinds == {"r": Branch("rewind", "r", 4, 5, 100.0), "f": Branch("fork", "r", 4, 5)}


def test_a_step_that_was_never_reached_is_told(
    server: CannedServer, capsys: pytest.CaptureFixture[str]
) -> None:
    runfold.init(project="p", resume_from="r?_step=40").finish()
    assert "step 9 only" in capsys.readouterr().err
    runfold.init(project="p", id="f", fork_from="r?_step=40")
    told = capsys.readouterr().err
    assert "step 9 only" in told and "Use a new id to fork" in told


def test_offline_the_spools_of_this_machine_are_asked(tmp_path: Path) -> None:
    first = runfold.init(project="p", id="r", config={"lr": 1}, tags=["x"], notes="n", resume="must")
    assert not first.resumed  # whether it exists elsewhere can't be told
    for step in (0, 3, 7):
        first.log({"loss": float(step)}, step=step)
    first.log({"text": "a", "nested": {"x": 1}})
    first.config.update({"more": 2})
    first.finish()
    with pytest.raises(UsageError, match="exists already"):
        runfold.init(project="p", id="r", resume="never")
    run = runfold.init(project="p", id="r", resume="allow")
    assert run.resumed and (run.starting_step, run.step) == (8, 8)
    assert run.config.as_dict() == {"lr": 1, "more": 2}
    assert (run.tags, run.notes, run.summary["loss"]) == (("x",), "n", 7.0)
    run.finish()
    assert runfold.init(project="other", id="r", resume="allow").resumed is False


def test_offline_a_second_resume_follows_the_first() -> None:
    for expected in (0, 2, 4):
        run = runfold.init(project="p", id="r", resume="allow")
        assert run.starting_step == expected
        run.log({"a": 1})
        run.log({"a": 2})
        run.finish()
    again = runfold.init(project="p", resume_from="r?_step=0")
    assert again.resumed and again.starting_step == 1
    again.finish()
    assert runfold.init(project="p", id="r", resume="allow").starting_step == 1


def test_a_process_that_dies_is_taken_up_by_auto(tmp_path: Path) -> None:
    first = runfold.init(project="p", resume="auto")
    first.log({"a": 1})
    first.finish(exit_code=1)
    run = runfold.init(project="p", resume=True)
    assert (run.id, run.resumed, run.starting_step) == (first.id, True, 1)
    run.finish()
    assert runfold.init(project="p", resume=True).id != first.id


def test_a_spool_that_is_damaged_does_not_stop_anybody(tmp_path: Path) -> None:
    first = runfold.init(project="p", id="r")
    first.log({"a": 1})
    first.finish()
    for path in (tmp_path / "home" / "spool").rglob("writer.msgpack"):
        path.write_bytes(b"\xc1 not msgpack")
    assert not runfold.init(project="p", id="r", resume="allow").resumed


def test_a_branch_travels_and_nonsense_does_not() -> None:
    branch = Branch("resume", "r", 9, 5, 100.0)
    identity = Identity(entity="e", project="p", run_id="r", branch=branch)
    assert Identity.unpack(identity.pack()) == identity
    assert "branch" not in Identity(entity="e", project="p", run_id="r").to_map()
    for said in (
        {"kind": "resume"},
        {"kind": 1, "run": "r", "step": 0},
        [],
        "x",
        {"kind": "fork", "run": "r", "step": True},
    ):
        with pytest.raises(DecodeError):
            Identity.from_map({**identity.to_map(), "branch": said})
    assert raised(lambda: Branch.from_map({"kind": "x", "run": "r", "step": 1, "later": [1]})) is None
