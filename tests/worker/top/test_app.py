"""The application, driven by keys and clicks: what stands on the screen."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import pytest
from textual.pilot import Pilot

from runfold.errors import CommError
from runfold.top.app import TopApp
from runfold.top.table_view import TableView
from worker.top.documents import PlayedSource, document, gpu, run, writer


@dataclass
class Printed:
    """What is used of a console line."""

    content: str
    is_open: bool = False


Script = Callable[["Driver"], Awaitable[None]]


class Driver:
    """A running app: presses keys, reads the screen."""

    def __init__(self, app: TopApp, pilot: Pilot[None]) -> None:
        self.app = app
        self.pilot = pilot

    @property
    def lines(self) -> list[str]:
        strips = self.app.screen._compositor.render_strips()
        return ["".join(segment.text for segment in strip).rstrip() for strip in strips]

    @property
    def text(self) -> str:
        return "\n".join(self.lines)

    @property
    def ranks(self) -> list[str]:
        """The first cell of each row of the table."""
        region = self.app.screen.query_one(TableView).region
        return [line.split()[0] for line in self.lines[region.y + 1 : region.bottom] if line.strip()]

    async def press(self, *keys: str) -> None:
        await self.pilot.press(*keys)
        await self.pilot.pause()

    async def until(self, condition: Callable[[], Any], timeout_s: float = 45.0) -> None:
        deadline = time.monotonic() + timeout_s
        while not condition():
            assert time.monotonic() < deadline, f"not seen:\n{self.text}"
            await self.pilot.pause(0.02)


def play(
    source: PlayedSource,
    script: Script,
    *,
    path: str | None = "llm/job-17",
    size: tuple[int, int] = (80, 24),
    **more: Any,
) -> None:
    async def run_script() -> None:
        app = TopApp(source, path, interval_s=0.05, **more)
        async with app.run_test(size=size) as pilot:
            driver = Driver(app, pilot)
            if path is not None:
                await driver.until(lambda: "local/llm/job-17" in driver.text)
            await script(driver)

    asyncio.run(run_script())


def many(count: int) -> dict[str, Any]:
    return document(*[writer(rank, gpus=[gpu(index=rank % 8)], step_lag=rank % 7) for rank in range(count)])


def test_80_by_24_shows_head_ranks_and_keys():
    async def script(driver: Driver) -> None:
        assert driver.lines[0].startswith("local/llm/job-17  running  75m21  step 1043  2.43/s")
        assert driver.ranks == ["0", "1"]
        assert "1-2 of 2" in driver.text and "q quit" in driver.lines[-1]
        assert len(driver.lines) == 24 and max(map(len, driver.lines)) <= 80

    play(PlayedSource(document), script)


def test_sort_by_keys_and_by_clicks_on_titles():
    async def script(driver: Driver) -> None:
        await driver.press("s")
        assert driver.ranks[0] == "0"
        await driver.press("S")
        assert driver.ranks[0] == "99"
        table = driver.app.screen.query_one(TableView)
        titles = driver.lines[table.region.y]
        await driver.pilot.click(TableView, offset=(titles.index("LAG"), 0))
        await driver.until(lambda: driver.ranks[0] == "6")
        await driver.pilot.click(TableView, offset=(titles.index("LAG"), 0))
        await driver.until(lambda: driver.ranks[0] == "0")

    play(PlayedSource(lambda: many(100)), script)


def test_filter_as_it_is_typed_and_escape_forgets_it():
    async def script(driver: Driver) -> None:
        await driver.press("slash", *"rank:12", "enter")
        await driver.until(lambda: driver.ranks == ["12"])
        assert '(100 without filter)  filter "rank:12"' in driver.text
        await driver.press("escape")
        await driver.until(lambda: len(driver.ranks) > 10)

    play(PlayedSource(lambda: many(100)), script)


def test_typing_in_the_filter_does_not_press_other_keys():
    async def script(driver: Driver) -> None:
        await driver.press("slash", *"sq")
        await driver.until(lambda: 'filter "sq"' in driver.text)
        assert driver.ranks == []

    play(PlayedSource(lambda: many(9)), script)


def test_the_cursor_stays_on_its_rank_while_the_order_changes():
    turn = [0]

    def turning() -> dict[str, Any]:
        return document(*[writer(rank, step_lag=(rank + turn[0]) % 5) for rank in range(5)])

    async def script(driver: Driver) -> None:
        table = driver.app.screen.query_one(TableView)
        await driver.press("s", "s", "s", "s", "down", "down")
        chosen = table.selected["rank"]
        for turn[0] in range(1, 5):
            asked = len(source.asked)
            await driver.until(lambda before=asked: len(source.asked) > before + 1)
            assert table.selected["rank"] == chosen

    source = PlayedSource(turning)
    play(source, script)


def test_a_thousand_ranks_can_be_walked_through():
    async def script(driver: Driver) -> None:
        assert "1-20 of 1000" in driver.text
        await driver.press("end")
        assert driver.ranks[-1] == "999" and "of 1000" in driver.text
        await driver.press("pageup", "pageup", "home")
        assert driver.ranks[0] == "0"
        began_s = time.thread_time()
        driver.app.screen.table.put(many(1000)["writers"])
        await driver.pilot.pause()
        assert time.thread_time() - began_s < 2.0

    play(PlayedSource(lambda: many(1000)), script)


def test_a_server_that_is_away_is_said_and_the_old_values_stay():
    source = PlayedSource(document)

    async def script(driver: Driver) -> None:
        def away() -> dict[str, Any]:
            raise CommError("can't reach http://127.0.0.1:8765")

        source.play = away
        await driver.until(lambda: "can't reach" in driver.text and "old)" in driver.text)
        assert driver.ranks == ["0", "1"] and driver.app.screen.table.is_old
        source.play = lambda: document(writer(0), writer(1), writer(2))
        await driver.until(lambda: driver.ranks == ["0", "1", "2"])
        assert "can't reach" not in driver.text and not driver.app.screen.table.is_old

    play(source, script)


def test_a_server_that_hangs_is_said_and_leaving_does_not_wait_for_it():
    hanging, seconds, is_over = [False], [0.0], threading.Event()

    def hang() -> dict[str, Any]:
        if hanging[0]:
            is_over.wait(100)
        return document()

    async def script(driver: Driver) -> None:
        hanging[0] = True
        await driver.pilot.pause(0.2)
        seconds[0] = 60.0
        await driver.until(lambda: "does not answer" in driver.text)
        assert "60s old" in driver.text or "61s old" in driver.text

    began_s = time.monotonic()
    try:
        play(PlayedSource(hang), script, clock=lambda: time.monotonic() + seconds[0])
        assert time.monotonic() - began_s < 60
    finally:
        is_over.set()


def test_an_answer_that_makes_no_sense_ends_nothing():
    source = PlayedSource(document)

    async def script(driver: Driver) -> None:
        source.play = lambda: {"run": None, "writers": [None, {"rank": "x", "gpus": 5}, {}], "nodes": 7}
        await driver.until(lambda: "None/None/None" in driver.text)
        source.play = lambda: 1 / 0
        await driver.until(lambda: "ZeroDivisionError" in driver.text)
        source.play = document
        await driver.until(lambda: driver.ranks == ["0", "1"])

    play(source, script)


@pytest.mark.parametrize(
    "label", ["[bold red]x[/]", "[/nope]", "\x1b[2J\x1b]0;own\x07", "学習" * 30, "a\u0301" * 40, "\u202egnol"]
)
def test_labels_can_do_nothing(label):
    found = document(writer(0, label=label, host=label), writer(1), id="job-17", reason=label, state="failed")

    async def script(driver: Driver) -> None:
        assert driver.ranks == ["0", "1"]
        assert all(char.isprintable() for line in driver.lines for char in line)
        if label.startswith("["):
            assert label in driver.text
        await driver.press("slash", *"x]", "escape")

    play(PlayedSource(lambda: found), script, size=(160, 30))


def test_choose_a_run_and_come_back():
    source = PlayedSource(document, lambda: [run(), run(id="other", project="vision")])

    async def script(driver: Driver) -> None:
        await driver.until(lambda: "2 runs go on" in driver.text and "vision" in driver.text)
        await driver.press("down", "enter")
        await driver.until(lambda: driver.text.count("RANK"))
        assert source.asked[-1] == "local/vision/other"
        await driver.press("escape")
        await driver.until(lambda: "2 runs go on" in driver.text)

    play(source, script, path=None)


def test_stop_asks_first():
    source = PlayedSource(document)

    async def script(driver: Driver) -> None:
        await driver.press("x")
        assert "Stop llm/job-17?" in driver.text and "SIGKILL after 30 s" in driver.text
        await driver.press("n")
        await driver.press("x")
        await driver.press("escape")
        assert not any(asked.startswith("stop") for asked in source.asked)
        await driver.press("x")
        await driver.press("y")
        await driver.until(lambda: "asked 2 processes to stop" in driver.text)
        assert "stop llm/job-17 30" in source.asked

    play(source, script)


def test_a_stop_that_is_refused_is_said():
    source = PlayedSource(document)

    def refuse(path: str, grace_s: float) -> dict[str, Any]:
        raise CommError("all of its processes have ended [sic]")

    source.stop = refuse

    async def script(driver: Driver) -> None:
        await driver.press("x")
        await driver.press("y")
        await driver.until(lambda: "have ended [sic]" in driver.text)

    play(source, script)


def test_the_console_of_the_chosen_rank():
    source = PlayedSource(lambda: many(3))
    colour, title = "\x1b[31mred\x1b[0m [bold]", "\x1b]0;own\x07\x1b[2J"
    source.printed = [Printed("epoch 1"), Printed(colour), Printed(title), Printed("50 %", is_open=True)]

    async def script(driver: Driver) -> None:
        await driver.press("down", "enter")
        await driver.until(lambda: "it has ended" in driver.text)
        assert "rank 1 on node-a, pid 4000: running" in driver.lines[0]
        assert driver.lines[1] == "epoch 1" and "red [bold]" in driver.lines[2]
        assert "50 %" not in driver.text and all(char.isprintable() for line in driver.lines for char in line)
        assert f"lines llm/job-17 {1:032x}" in source.asked
        await driver.press("escape")
        await driver.until(lambda: driver.ranks == ["0", "1", "2"])

    play(source, script)


def test_a_console_that_can_not_be_read_is_asked_for_again(monkeypatch):
    monkeypatch.setattr("runfold.top.console_screen._RETRY_S", 0.05)
    source = PlayedSource(document)
    answers = iter([CommError("can't reach"), Printed("one"), CommError("can't reach"), Printed("two")])

    class Lines:
        def __next__(self) -> Any:
            found = next(answers)
            if isinstance(found, Exception):
                raise found
            return found

    source.lines = lambda *_: Lines()

    async def script(driver: Driver) -> None:
        await driver.press("c")
        await driver.until(lambda: "it has ended" in driver.text)
        assert driver.lines[1:3] == ["one", "two"], "nothing twice"

    play(source, script)


@pytest.mark.parametrize("size", [(20, 5), (40, 10), (250, 60)])
def test_any_size_of_terminal(size):
    async def script(driver: Driver) -> None:
        assert max(map(len, driver.lines)) <= size[0]
        await driver.pilot.resize_terminal(100, 30)
        await driver.until(lambda: driver.ranks[:2] == ["0", "1"])

    play(PlayedSource(lambda: many(20)), script, size=size)


def test_q_leaves():
    async def script(driver: Driver) -> None:
        await driver.press("q")
        await driver.until(lambda: not driver.app.is_running)

    play(PlayedSource(document), script)
