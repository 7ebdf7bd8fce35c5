"""Board: whose turn it is."""

from __future__ import annotations

from runfold.batches import BATCH_BYTES, BATCH_COUNT, SMALL_BYTES
from runfold.uploads.board import Board
from runfold.uploads.jobs import AnyJob, ArtifactJob, FileJob, FolderJob
from runfold.uploads.tasks import Task


def file(name: str, run: str = "e/p/a", size: int = 10, **said: object) -> Task:
    about = {"writer": "w", "run": run, "created_unix_s": 0.0, "name": name, "source": f"/{name}", **said}
    return Task(FileJob(**about), size_bytes=size)  # type: ignore[arg-type]


def artifact(run: str = "e/p/a") -> Task:
    return Task(
        ArtifactJob(
            writer="w", run=run, created_unix_s=0.0, client_id="c", about={}, manifest="/m", sources="/s"
        )
    )


def folder() -> Task:
    return Task(FolderJob(writer="w", run="e/p/a", created_unix_s=0.0, source="/f"))


def board_of(*tasks: Task, most_artifacts: int = 1) -> Board:
    board = Board(most_artifacts=most_artifacts)
    for task in tasks:
        board.add(task)
    board.promote(0.0)
    return board


def name(task: Task) -> str:
    job: AnyJob = task.job
    return job.name if isinstance(job, FileJob) else job.kind


def names(work: list[Task]) -> list[str]:
    return [name(task) for task in work]


def test_small_files_of_a_run_go_together_and_large_ones_alone() -> None:
    board = board_of(file("1"), file("2"), file("large", size=SMALL_BYTES + 1), file("3"), file("b", "e/p/b"))
    assert names(board.take()) == ["1", "2", "3"]
    assert names(board.take()) == ["b"]
    assert names(board.take()) == ["large"]
    assert board.take() == []


def test_a_batch_has_its_limits() -> None:
    many = board_of(*(file(str(n), size=0) for n in range(BATCH_COUNT + 1)))
    assert [len(many.take()), len(many.take())] == [BATCH_COUNT, 1]
    heavy = board_of(*(file(str(n), size=SMALL_BYTES) for n in range(40)))
    assert len(heavy.take()) == BATCH_BYTES // SMALL_BYTES


def test_runs_take_turns() -> None:
    large = SMALL_BYTES + 1
    board = board_of(*(file(f"a{n}", size=large) for n in range(4)), file("b0", "e/p/b", large))
    order = []
    while work := board.take():
        order += names(work)
        if len(order) == 2:
            board.add(file("b1", "e/p/b", large))
            board.promote(0.0)
    assert order == ["a0", "b0", "a1", "b1", "a2", "a3"]


def test_a_large_file_that_made_way_goes_behind_the_others() -> None:
    first, second = file("1", size=SMALL_BYTES + 1), file("2", size=SMALL_BYTES + 1)
    board = board_of(first, second)
    assert board.take() == [first]
    assert board.has_ready
    board.put_back(first)
    board.promote(0.0)
    assert board.take() == [second]
    assert board.take() == [first]
    assert not board.has_ready


def test_two_of_one_name_never_go_at_once_and_the_older_goes_first() -> None:
    older, newer = file("a", sha256="0" * 64), file("a", sha256="1" * 64)
    other = file("a", "e/p/b")
    board = board_of(older, newer, other)
    assert board.take() == [older]
    assert board.take() == [other]
    assert board.take() == []
    board.remove(older)
    assert board.take() == [newer]


def test_what_would_be_read_anew_is_read_once() -> None:
    older = file("a")
    board = board_of(older)
    assert board.add(file("a", policy="live")) is None, "the watch is no replacement"
    newer = file("a")
    assert board.add(newer) is None, "the newest was the watch"
    newest = file("a")
    assert board.add(newest) is newer
    assert board.add(file("a", sha256="0" * 64)) is None
    running = board_of(file("b"))
    running.take()
    assert running.add(file("b")) is None, "it may be past the reading"


def test_artifacts_leave_threads_for_files() -> None:
    board = board_of(artifact(), artifact(), file("a"))
    first = board.take()
    assert names(first) == ["artifact"]
    assert names(board.take()) == ["a"]
    assert board.take() == []
    board.remove(first[0])
    assert names(board.take()) == ["artifact"]


def test_what_waits_has_its_time() -> None:
    live, end, plain = file("live", policy="live"), file("end", policy="end"), file("plain")
    board = board_of(live, end, plain, watch := folder())
    work = board.take()
    assert names(work) == ["live", "plain"]
    assert not work[0].began_final
    live.rest((1, 2, 3), "d", modified_unix_s=0.0, read_unix_s=10.0)
    board.put_back(live)
    board.put_back(plain, not_before_s=5.0)
    board.promote(4.0)
    assert board.take() == []
    assert (len(board), board.unfinished_count) == (4, 1)
    board.promote(5.0)
    assert board.take() == [plain]
    assert board.watches == [live, end, watch]
    board.end_watches({"other"})
    board.promote(5.0)
    assert board.take() == []
    board.end_watches({"w"})
    assert (board.watches, board.unfinished_count) == ([], 4)
    board.promote(5.0)
    assert sorted(names(board.take())) == ["end", "live"]
    assert names(board.take()) == ["folder"]
    assert live.began_final


def test_a_file_that_was_written_a_moment_ago_may_be_written_again_unseen() -> None:
    live = file("live", policy="live")
    live.rest((1, 2, 3), "d", modified_unix_s=9.0, read_unix_s=10.0)
    assert live.sent_mark is None
    live.rest((1, 2, 3), "d", modified_unix_s=7.0, read_unix_s=10.0)
    assert live.sent_mark == (1, 2, 3)


def test_what_has_its_last_time_while_it_is_worked_at_goes_again_at_once() -> None:
    live = file("live", policy="live")
    board = board_of(live)
    board.take()
    board.end_watches({"w"})
    board.put_back(live, not_before_s=100.0)
    board.promote(1.0)
    assert board.take() == [live]
    board.put_back(live, not_before_s=100.0)
    board.promote(99.0)
    assert board.take() == [], "now it is the last time that waits"
