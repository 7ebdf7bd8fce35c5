"""A run in a notebook: its page in a frame, or a card that holds no text of a user as HTML."""

from __future__ import annotations

import html.parser
import sys
import types
from typing import Any

import pytest

import runfold
from runfold import run_card

EVIL = "\"'><script>alert(1)</script><img src=x onerror=alert(2)>"


class Elements(html.parser.HTMLParser):
    """Names of the elements, their attributes, and the text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


def expect_harmless(text: str) -> Elements:
    elements = Elements(text)
    tags = {tag for tag, _ in elements.found}
    assert tags <= {
        "div",
        "b",
        "code",
        "span",
        "i",
        "table",
        "tr",
        "th",
        "td",
        "details",
        "summary",
        "iframe",
        "a",
    }
    for _, attributes in elements.found:
        assert not any(name.startswith("on") for name in attributes)
    return elements


def test_an_offline_run_is_a_card_of_what_is_known() -> None:
    run = runfold.init(project="p", name=EVIL, config={EVIL: EVIL, "lr": {"warm": 0.1}})
    run.log({EVIL: EVIL, "loss": float("nan"), "t": runfold.Table(columns=["a"], data=[[1]])})
    text = run.to_html()
    elements = expect_harmless(text)
    assert elements.text.count(EVIL) == 5
    assert "lr.warm" in elements.text
    assert "NaN" in elements.text
    assert "media/table/t_0_" in elements.text
    assert "running, offline" in elements.text
    assert text == run._repr_html_()
    run.finish()
    assert "finished here, offline" in Elements(run.to_html()).text


def test_a_hidden_run_is_shown_after_a_click() -> None:
    run = runfold.init(project="p")
    assert run.to_html(hidden=True).startswith("<details><summary>")


def test_a_disabled_run_has_a_card_too() -> None:
    run = runfold.init(project="p", mode="disabled")
    assert "disabled" in Elements(run.to_html()).text


def test_a_frame_leads_to_the_page_and_nowhere_else() -> None:
    text = run_card.frame(f"http://h:1/e/{EVIL}/runs/r", height=300, hidden=False)
    elements = expect_harmless(text)
    ((_, frame),) = [each for each in elements.found if each[0] == "iframe"]
    assert str(frame["src"]).startswith("http://h:1/e/%22%27%3E%3Cscript%3E")
    assert str(frame["src"]).endswith("/runs/r?jupyter=true")
    assert "height:300px" in str(frame["style"])


def test_long_texts_and_many_keys_are_cut() -> None:
    config = {f"k{number}": "x" * 10_000 for number in range(1000)}
    text = run_card.card(name="n", path="e/p/r", state="running", config=config, summary={})
    assert len(text) < 100_000
    assert "and 900 more" in text


def test_display_shows_in_notebooks_only(monkeypatch: pytest.MonkeyPatch) -> None:
    run = runfold.init(project="p")
    assert run.display() is False
    shown: list[Any] = []
    module: Any = types.ModuleType("IPython.display")
    module.HTML, module.display = lambda text: text, shown.append
    shell: Any = types.ModuleType("IPython")
    shell.get_ipython = object
    monkeypatch.setitem(sys.modules, "IPython", shell)
    monkeypatch.setitem(sys.modules, "IPython.display", module)
    assert run.display(height=200) is True
    assert shown == [run.to_html(200)]
