"""Behaviours that the description of W&B names and the recorded scenarios do not cover, with what we must give.

Each function takes a run and uses it; `summary`, `rows` and `live` are what must come out: the summary at the end,
the rows by step, and the summary just before finish(). OWN_KEYS are left out.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

#: What every row and summary has by itself.
OWN_KEYS = frozenset({"_step", "_timestamp", "_runtime", "_wandb"})
NAN = math.nan
_UNSAID: Any = object()


@dataclass(frozen=True)
class Described:
    act: Callable[[Any], None]
    summary: dict[str, Any]
    rows: dict[int, dict[str, Any]] | None
    live: dict[str, Any]
    #: The number of the rule that makes it differ from the client.
    rule: int | None


DESCRIBED: dict[str, Described] = {}


def described(
    summary: dict[str, Any],
    rows: dict[int, dict[str, Any]] | None = None,
    *,
    live: dict[str, Any] = _UNSAID,
    rule: int | None = None,
) -> Callable[[Callable[[Any], None]], Callable[[Any], None]]:
    def keep(act: Callable[[Any], None]) -> Callable[[Any], None]:
        DESCRIBED[act.__name__] = Described(act, summary, rows, summary if live is _UNSAID else live, rule)
        return act

    return keep


def log_all(run: Any, *values: Any, key: str = "x") -> None:
    for value in values:
        run.log({key: value})


def shown(run: Any) -> dict[str, Any]:
    return {key: value for key, value in run.summary._as_dict().items() if key not in OWN_KEYS}


# -- define_metric: kinds


@described({"x": 2})
def defined_without_arguments(run: Any) -> None:
    run.define_metric("x")
    log_all(run, 3, 1, 2)


@described({"x": 2})
def defined_with_an_empty_summary(run: Any) -> None:
    run.define_metric("x", summary="")
    log_all(run, 3, 1, 2)


@described({"x": {"max": 3}})
def defined_as_max(run: Any) -> None:
    run.define_metric("x", summary="max")
    log_all(run, 1, 3, 2)


@described({"x": {"last": 4}})
def defined_as_last(run: Any) -> None:
    run.define_metric("x", summary="last")
    log_all(run, 1, 2, 4)


@described({"x": {"first": 7}})
def defined_as_first(run: Any) -> None:
    run.define_metric("x", summary="first")
    log_all(run, 7, 2, 4)


@described({"x": 4})
def defined_as_copy(run: Any) -> None:
    run.define_metric("x", summary="copy")
    log_all(run, 7, 2, 4)


@described({"x": {"min": 1, "max": 3}})
def defined_in_capitals(run: Any) -> None:
    run.define_metric("x", summary="MIN,Max")
    log_all(run, 1, 3)


@described({"x": {"best": 1}}, rule=4)
def best_is_smallest_by_default(run: Any) -> None:
    run.define_metric("x", summary="best")
    log_all(run, 3, 1, 2)


@described({"x": {"best": 3, "last": 2}}, rule=4)
def best_goes_by_the_goal(run: Any) -> None:
    run.define_metric("x", summary="best,last", goal="maximize")
    log_all(run, 1, 3, 2)


@described({"x": {"first": 1, "last": -math.inf, "max": math.inf, "mean": NAN, "min": -math.inf}})
def infinities_reach_the_summary(run: Any) -> None:
    run.define_metric("x", summary="min,max,mean,first,last")
    log_all(run, 1, math.inf, -math.inf)


@described({"x": {"first": [1, 2], "last": [3, 4]}}, rule=7)
def lists_have_no_extremes(run: Any) -> None:
    run.define_metric("x", summary="min,first,last")
    log_all(run, [1, 2], [3, 4])


@described({"x": {"first": 2**53 + 1, "last": 2**60, "min": 2**53}})
def extremes_are_float64(run: Any) -> None:
    run.define_metric("x", summary="min,first,last")
    log_all(run, 2**53 + 1, 2**60)


# -- define_metric: when it takes effect, and again


@described({"x": {"first": 5, "max": 5, "mean": 3, "min": 1}})
def defined_after_logging(run: Any) -> None:
    log_all(run, 5, 1, 3)
    run.define_metric("x", summary="min,max,mean,first")


@described({"x": {"max": 5}, "e": 0, "y": 1}, {0: {"x": 5, "e": 0, "y": 1}})
def defined_while_a_row_is_pending(run: Any) -> None:
    run.log({"x": 5}, commit=False)
    run.define_metric("x", summary="max", step_metric="e")
    run.log({"y": 1})


@described({"a/x": {"max": 5}})
def a_glob_defined_after_logging_waits_for_the_key(run: Any) -> None:
    run.log({"a/x": 5})
    run.define_metric("a/*", summary="max")
    assert shown(run) == {"a/x": 5}
    run.log({"a/x": 1})


@described({"x": {"min": 1, "max": 9}})
def kinds_are_united(run: Any) -> None:
    run.define_metric("x", summary="min")
    run.define_metric("x", summary="max")
    log_all(run, 1, 9, 5)


@described({"x": {"min": 1}})
def none_is_taken_back_by_a_summary(run: Any) -> None:
    run.define_metric("x", summary="none")
    log_all(run, 1, 5)
    run.define_metric("x", summary="min")


@described({})
def none_survives_hidden(run: Any) -> None:
    run.define_metric("x", summary="none")
    run.define_metric("x", hidden=True)
    log_all(run, 1, 5)


@described({"x": {"max": 5}, "e": 2}, {0: {"e": 2}, 1: {"x": 5}})
def overwrite_forgets_the_step_metric(run: Any) -> None:
    run.define_metric("x", step_metric="e", summary="min")
    run.define_metric("x", summary="max", overwrite=True)
    run.log({"e": 2})
    run.log({"x": 5})


@described({"x": 5})
def overwrite_with_nothing(run: Any) -> None:
    run.define_metric("x", summary="min")
    log_all(run, 1, 5)
    run.define_metric("x", overwrite=True)


# -- names and globs


@described({"lo": {"max": 3}, "loss": {"max": 4}, "log/x": {"max": 5}, "other": 1})
def a_glob_without_a_slash(run: Any) -> None:
    run.define_metric("lo*", summary="max")
    run.log({"lo": 3, "loss": 4, "log/x": 5, "other": 6})
    run.log({"lo": 1, "loss": 1, "log/x": 1, "other": 1})


@described({"t/a": {"min": 1}, "t/b": {"max": 2}, "s": 0}, {0: {"t/a": 1, "t/b": 2, "s": 0}})
def an_explicit_definition_wins_over_a_glob_entirely(run: Any) -> None:
    run.define_metric("t/*", summary="max", step_metric="s")
    run.define_metric("t/a", summary="min")
    run.log({"t/a": 1, "t/b": 2})


@described({"t/loss/x": {"min": 1}, "t/y": {"max": 2}}, rule=9)
def the_longest_glob_wins(run: Any) -> None:
    run.define_metric("t/loss*", summary="min")
    run.define_metric("t/*", summary="max")
    run.log({"t/loss/x": 1, "t/y": 2})


@described({"a.b": 5})
def a_dotted_name_does_not_summarise_a_literal_dotted_key(run: Any) -> None:
    run.define_metric("a.b", summary="min")
    log_all(run, 3, 5, key="a.b")


@described({"a?": {"max": 2}, "ab": 3})
def a_question_mark_is_a_letter(run: Any) -> None:
    run.define_metric("a?", summary="max")
    run.log({"a?": 2, "ab": 3})


# -- step metrics


@described({"loss": 3, "epoch": 5}, {0: {"loss": 1, "epoch": 0}, 1: {"epoch": 5}, 2: {"loss": 3, "epoch": 5}})
def a_step_metric_starts_at_zero(run: Any) -> None:
    run.define_metric("loss", step_metric="epoch")
    run.log({"loss": 1})
    run.log({"epoch": 5})
    run.log({"loss": 3})


@described({"a": 1, "b": 0, "c": 3}, {0: {"c": 3}, 1: {"a": 1, "b": 0, "c": 3}}, rule=9)
def a_chain_of_step_metrics(run: Any) -> None:
    run.define_metric("a", step_metric="b")
    run.define_metric("b", step_metric="c")
    run.log({"c": 3})
    run.log({"a": 1})


@described({"loss": 1, "epoch": 2}, {0: {"loss": 1, "epoch": 2}})
def a_step_metric_logged_earlier_in_the_same_row(run: Any) -> None:
    run.define_metric("loss", step_metric="epoch")
    run.log({"epoch": 2}, commit=False)
    run.log({"loss": 1})


@described({"t": 1}, {0: {"t": 1}})
def the_step_as_step_metric(run: Any) -> None:
    run.define_metric("t", step_metric="_step")
    run.log({"t": 1})


# -- log


@described({"x": 3}, {0: {"x": 0}, 1: {"x": 1}, 5: {"x": 2}, 10: {"x": 3}}, live={"x": 2})
def gaps_between_steps_are_kept(run: Any) -> None:
    for value, step in enumerate((0, 1, 5, 10)):
        run.log({"x": value}, step=step)


@described({"x": 2}, {3: {"x": 1}, 4: {"x": 2}}, live={"x": 1})
def an_explicit_step_is_pending(run: Any) -> None:
    run.log({"x": 1}, step=3)
    assert run.step == 3
    assert shown(run) == {}
    run.log({"x": 2}, step=4)


@described({"x": 2, "y": 2}, {0: {"x": 1}, 1: {"x": 2, "y": 2}})
def the_natural_next_step_said_by_hand(run: Any) -> None:
    run.log({"x": 1})
    run.log({"x": 2}, step=1)
    run.log({"y": 2})


@described({"a": 1, "b": 2}, {0: {"a": 1, "b": 2}, 1: {}})
def an_empty_call_commits(run: Any) -> None:
    run.log({"a": 1}, commit=False)
    assert run.step == 0
    run.log({"b": 2}, commit=False)
    run.log({}, commit=True)
    run.log({})
    assert run.step == 2


@described(
    {"x": {"min": 1, "max": 9, "mean": 5, "first": 1, "last": 9}},
    {1: {"x": 1}, 2: {"x": 5}, 3: {"x": 9}},
    rule=1,
)
def late_steps_are_folded_in_order(run: Any) -> None:
    run.define_metric("x", summary="min,max,mean,first,last")
    run.log({"x": 9}, step=3, commit=True)
    run.log({"x": 100}, step=2)
    run.log({"x": 5}, step=2)
    run.log({"x": 1}, step=1)
    assert run.step == 4


@described({"n": 199}, {**{step: {} for step in range(199)}, 199: {"n": 199}})
def threads_share_the_counter(run: Any) -> None:
    def work() -> None:
        for _ in range(25):
            run.log({})

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    run.log({"n": run.step - 1}, step=199)


@described({}, {})
def a_negative_step_is_dropped(run: Any) -> None:
    run.log({"x": 1}, step=-1)
    assert run.step == 0


@described({"a": 1, "n": {"1": 1, "1.5": 2, "None": 3, "a,b": 4}})
def keys_inside_become_text(run: Any) -> None:
    run.log({"a": 1, "": 5, "n": {1: 1, 1.5: 2, None: 3, ("a", "b"): 4}})


@described({"_kept": 1}, {0: {"_kept": 1}})
def other_underscored_keys_are_plain(run: Any) -> None:
    run.define_metric("*", summary="max")
    run.log({"_kept": 1, "_runtime": 1e12, "_step": 77})


@described({"x": 2}, {0: {"x": 5}, 1: {"x": None}, 2: {"x": 2}})
def none_is_in_history_and_not_in_the_summary(run: Any) -> None:
    log_all(run, 5, None)
    assert shown(run) == {}
    log_all(run, 2)


# -- summary by hand


@described({"x": 0.99, "other": 1}, rule=3)
def a_value_set_by_hand_stays(run: Any) -> None:
    run.log({"x": 0.1})
    run.summary["x"] = 0.99
    run.log({"other": 1})
    run.log({"x": 0.2})


@described({"x": 0.2}, rule=3)
def a_value_set_by_hand_ends_with_its_deletion(run: Any) -> None:
    run.summary["x"] = 0.99
    run.log({"x": 0.1})
    del run.summary["x"]
    assert shown(run) == {}
    run.log({"x": 0.2})


@described({"x": 7}, rule=3)
def defining_again_does_not_remove_a_value_set_by_hand(run: Any) -> None:
    run.define_metric("x", summary="min,max")
    log_all(run, 5, 1)
    run.summary["x"] = 7
    run.define_metric("x", summary="min,max")
    log_all(run, 3)


@described({"x": 42}, rule=3)
def set_by_hand_before_it_is_defined(run: Any) -> None:
    run.summary["x"] = 42
    run.define_metric("x", summary="min")


@described({"m": {"y": 9, "z": 3}})
def logged_nested_values_are_single_leaves(run: Any) -> None:
    run.log({"m": {"x": 1, "y": 2, "z": 3}})
    run.summary["m"]["y"] = 9
    del run.summary["m"]["x"]


@described({"b": 1})
def a_nested_metric_is_deleted_whole(run: Any) -> None:
    run.log({"m": {"x": 1, "deep": {"y": 2}}, "b": 1})
    del run.summary["m"]


@described({"m": {"x": 1}})
def inside_a_dict_set_by_hand_nothing_is_deleted(run: Any) -> None:
    run.summary["m"] = {"x": 1}
    del run.summary["m"]["x"]


@described({"x": {"min": 1, "mean": 3, "first": 3}})
def after_deletion_first_restarts_and_the_rest_goes_on(run: Any) -> None:
    run.define_metric("x", summary="min,mean,first")
    log_all(run, 5, 1)
    del run.summary["x"]
    log_all(run, 3)


@described({"inf": math.inf, "t": [1, 2], "b": "text"})
def values_set_by_hand_are_converted(run: Any) -> None:
    run.summary.update({"nan": NAN, "none": None, "inf": math.inf, "t": (1, 2), "b": b"text"})


@described({}, rule=8)
def what_is_set_to_none_disappears(run: Any) -> None:
    run.log({"x": 5})
    run.summary["x"] = 6
    run.summary["x"] = None


# -- reserved keys: what every row has by itself is left out above, so these are told apart by name


RESERVED_ROWS = [
    {"_step": 0, "_timestamp": 5, "_wandb": {"x": 1}, "_own": 2, "y": 1},
    {"_step": 1, "y": 2},
]


def log_reserved_keys(run: Any) -> None:
    run.log({"_step": 50, "_timestamp": 5, "_runtime": "mine", "_wandb": {"x": 1}, "_own": 2, "y": 1})
    assert run.summary["_timestamp"] == 5
    run.log({"y": 2})
