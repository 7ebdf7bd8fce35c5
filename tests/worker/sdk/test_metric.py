"""define_metric(): its arguments, its errors, its record."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

import runfold
from runfold.metric import Metric, check_metric
from runfold.protocol.records import RecordKind
from support.spooled import Spooled


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": ""}, "requires non-empty name"),
        ({"name": None}, "requires non-empty name"),
        ({"name": 5}, "arg: name type: int"),
        ({"name": "x", "summary": "median"}, "summary op: median"),
        ({"name": "x", "summary": "min, max"}, "summary op:  max"),
        ({"name": "x", "summary": "min,"}, "summary op: "),
        ({"name": "x", "summary": ["min"]}, "arg: summary type: list"),
        ({"name": "x", "step_metric": 5}, "arg: step_metric type: int"),
        ({"name": "x", "step_sync": 1}, "arg: step_sync type: int"),
        ({"name": "x", "hidden": 1}, "arg: hidden type: int"),
        ({"name": "x", "overwrite": "y"}, "arg: overwrite type: str"),
        ({"name": "x", "goal": "banana"}, "arg: goal: banana"),
        ({"name": "x", "reduce": "median"}, "arg: reduce: median"),
        ({"name": "x", "expect": "same"}, "arg: expect: same"),
        ({"name": "x", "expect": 1}, "arg: expect type: int"),
        ({"name": "x", "expect": "equal", "rtol": "0.1"}, "arg: rtol type: str"),
        ({"name": "x", "expect": "equal", "atol": True}, "arg: atol type: bool"),
        ({"name": "x", "expect": "equal", "atol": -1}, "arg: atol: -1"),
        ({"name": "x", "expect": "equal", "rtol": float("nan")}, "arg: rtol: nan"),
        ({"name": "x", "rtol": 0.1}, 'go with expect="equal"'),
        ({"name": "a*b"}, "glob suffixes only"),
        ({"name": "a**"}, "glob suffixes only"),
        ({"name": "*/loss"}, "glob suffixes only"),
    ],
)
def test_wrong_arguments(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(runfold.Error, match=r".*") as caught:
        check_metric(**arguments)
    assert message in str(caught.value)


def test_what_a_metric_says() -> None:
    epoch = check_metric("epoch")
    metric = check_metric("x", step_metric=epoch, summary="MIN,Max", hidden=True, goal="MAXIMIZE")
    assert (metric.name, metric.step_metric, metric.step_sync, metric.hidden) == ("x", "epoch", True, True)
    assert (metric.summary, metric.goal) == (("min", "max"), "maximize")
    assert (epoch.step_metric, epoch.step_sync, epoch.summary) == (None, False, None)
    assert check_metric("x", summary="").summary is None
    assert check_metric("*").name == "*"
    assert check_metric("a?").name == "a?"


def test_copy_is_deprecated(capsys: pytest.CaptureFixture[str]) -> None:
    check_metric("x", summary="copy")
    assert "deprecated" in capsys.readouterr().err


def test_the_record(run: runfold.Run, spool: Callable[[], Spooled]) -> None:
    metric = run.define_metric("loss", "step", summary="best", goal="maximize", reduce="sum", weight="tokens")
    assert isinstance(metric, Metric)
    (said,) = spool().payloads(RecordKind.METRIC)
    assert (said.name, said.step_metric, said.summary, said.goal) == ("loss", "step", ("best",), "maximize")
    assert (said.reduce, said.weight) == ("sum", "tokens")
    with pytest.raises(TypeError):
        run.define_metric("x", foo=1)  # type: ignore[call-arg]  # as the test says


def test_what_must_be_equal_travels(run: runfold.Run, spool: Callable[[], Spooled]) -> None:
    run.define_metric("grad_norm", expect="equal", rtol=1e-5, atol=1)
    run.define_metric("plain")
    said, plain = spool().payloads(RecordKind.METRIC)
    assert (said.expect, said.rtol, said.atol) == ("equal", 1e-5, 1.0)
    assert {"expect", "rtol", "atol"}.isdisjoint(plain.to_map())
