"""Differential scenarios for a W&B-`Run`-compatible SDK.

Every scenario is a small function that takes ``wb`` (the real ``wandb`` module
or a drop-in with the same Python API), creates one or more runs, exercises a
behaviour, finishes the run and returns a JSON-able dict of *client side
observations*.  The runner (``run_oracle.py`` for real wandb) adds the
*stored* side: history rows, summary, config, metric definitions, files, ...

Conventions
-----------
* A scenario never lets an expected exception escape: it wraps the call in
  ``exc(...)`` which returns ``{"raised": <class name> | None, "mro": [...],
  "msg": str}``.  If an exception does escape, the runner records it under
  ``"escaped"``.
* ``done(run)`` snapshots ``run.summary`` and ``run.config`` *before* finish,
  then finishes.
* Every scenario is run in its own process with a fresh, empty cwd.
* Values written to obs are passed through ``plain`` (mapping-like -> dict,
  tuple/list -> list, numpy scalar -> python scalar, NaN/Inf -> {"$float": ..}).
* numpy is the only third party dependency; torch is used when importable.
"""

from __future__ import annotations

import argparse
import collections
import dataclasses
import datetime
import decimal
import enum
import math
import os
import sys
import types

NAN = float("nan")
INF = float("inf")

SCENARIOS: "collections.OrderedDict[str, dict]" = collections.OrderedDict()


def scenario(group, **meta):
    def deco(fn):
        assert fn.__name__ not in SCENARIOS, fn.__name__
        SCENARIOS[fn.__name__] = {"fn": fn, "group": group, **meta}
        return fn

    return deco


# --------------------------------------------------------------------------
# helpers
# --------------------------------------------------------------------------
def plain(x, depth=0):
    if depth > 12:
        return "<deep>"
    if x is None or isinstance(x, (bool, str)):
        return x
    if isinstance(x, int):
        return int(x)
    if isinstance(x, float):
        if math.isnan(x):
            return {"$float": "NaN"}
        if math.isinf(x):
            return {"$float": "Infinity" if x > 0 else "-Infinity"}
        return float(x)
    if isinstance(x, dict):
        return {str(k): plain(v, depth + 1) for k, v in x.items()}
    if hasattr(x, "keys") and hasattr(x, "__getitem__") and not isinstance(x, type):
        return {str(k): plain(x[k], depth + 1) for k in list(x.keys())}
    if isinstance(x, (list, tuple)):
        return [plain(v, depth + 1) for v in x]
    if isinstance(x, (set, frozenset)):
        return {"$set": sorted(map(repr, x))}
    if hasattr(x, "item") and getattr(x, "shape", None) == ():
        return plain(x.item(), depth + 1)
    return {"$type": type(x).__name__, "$str": str(x)[:200]}


def exc(fn, *a, **k):
    """Call fn and report the exception (or the plain return value)."""
    try:
        ret = fn(*a, **k)
    except BaseException as e:  # noqa: BLE001
        return {
            "raised": type(e).__name__,
            "mro": [c.__name__ for c in type(e).__mro__ if c is not object],
            "msg": str(e)[:300],
        }
    return {"raised": None, "ret": plain(ret) if not hasattr(ret, "_commit") else "<metric>"}


def init(wb, **kw):
    kw.setdefault("project", "diff")
    return wb.init(**kw)


def mask_clock(d):
    """Hide wall clock values so that results are comparable."""
    if not isinstance(d, dict):
        return d
    d = dict(d)
    v = d.get("_timestamp")
    if isinstance(v, (int, float)) and not isinstance(v, bool) and v > 1.6e9:
        d["_timestamp"] = "<time>"
    v = d.get("_runtime")
    if isinstance(v, (int, float)) and not isinstance(v, bool) and v < 900:
        d["_runtime"] = "<runtime>"
    return d


def snap(run):
    """Client view of the summary right now."""
    try:
        return mask_clock(plain(run.summary))
    except Exception as e:  # noqa: BLE001
        return {"$error": type(e).__name__ + ": " + str(e)[:200]}


def done(run, finish_kw=None, **obs):
    out = dict(obs)
    out["summary_live"] = snap(run)
    try:
        out["config_live"] = plain(dict(run.config.items()))
    except Exception as e:  # noqa: BLE001
        out["config_live"] = {"$error": type(e).__name__}
    run.finish(**(finish_kw or {}))
    return out


def np():
    import numpy

    return numpy


# ==========================================================================
# A. log(): step & commit rules
# ==========================================================================
@scenario("log")
def log_auto_step(wb):
    run = init(wb)
    steps = []
    for i in range(5):
        steps.append(run.step)
        run.log({"x": i})
    steps.append(run.step)
    return done(run, steps=steps)


@scenario("log")
def log_empty_dict_autostep(wb):
    run = init(wb)
    run.log({})
    a = run.step
    run.log({"x": 1})
    b = run.step
    run.log({})
    run.log({})
    c = run.step
    run.log({"x": 2})
    return done(run, steps=[a, b, c])


@scenario("log")
def log_only_timestamp_row(wb):
    """An empty dict still carries the automatic _timestamp."""
    run = init(wb)
    run.log({})
    return done(run)


@scenario("log")
def log_same_step_merges(wb):
    run = init(wb)
    run.log({"a": 1}, step=2)
    run.log({"b": 2}, step=2)
    run.log({"a": 3}, step=3)
    return done(run)


@scenario("log")
def log_same_step_same_key_last_wins(wb):
    run = init(wb)
    run.log({"a": 1}, step=2)
    run.log({"a": 99}, step=2)
    run.log({"a": 5}, step=3)
    return done(run)


@scenario("log")
def log_same_step_last_wins_minmax(wb):
    """An overwritten value inside a step is never seen by min/max."""
    run = init(wb)
    run.define_metric("a", summary="min,max,mean,first,last")
    run.log({"a": 1000}, step=0)
    run.log({"a": 1}, step=0)
    run.log({"a": 2}, step=1)
    run.log({"a": 3}, step=2)
    return done(run)


@scenario("log")
def log_same_step_twice_committed(wb):
    """commit=True at step 2 and then step 2 again."""
    run = init(wb)
    run.log({"a": 1}, step=2, commit=True)
    st = run.step
    r = exc(run.log, {"a": 2}, step=2, commit=True)
    run.log({"b": 3})
    return done(run, step_after=st, second=r)


@scenario("log")
def log_step_backwards_ignored(wb):
    run = init(wb)
    run.log({"x": 1}, step=5)
    r = exc(run.log, {"x": 2, "late": 1}, step=3)
    run.log({"y": 3}, step=5)
    run.log({"x": 4}, step=6)
    return done(run, r=r)


@scenario("log")
def log_step_backwards_after_auto(wb):
    run = init(wb)
    for i in range(4):
        run.log({"x": i})
    r = exc(run.log, {"x": 100}, step=1)
    run.log({"x": 5})
    return done(run, r=r, step=run.step)


@scenario("log")
def log_step_jump_then_auto(wb):
    run = init(wb)
    run.log({"x": 1}, step=100)
    run.log({"y": 2})
    run.log({"z": 3})
    return done(run, step=run.step)


@scenario("log")
def log_commit_false_overrides_key(wb):
    run = init(wb)
    run.log({"a": 1, "b": 1}, commit=False)
    run.log({"a": 2})
    return done(run)


@scenario("log")
def log_commit_false_at_end_flushed(wb):
    run = init(wb)
    run.log({"a": 1})
    run.log({"tail": 7}, commit=False)
    return done(run)


@scenario("log")
def log_commit_true_explicit_step(wb):
    run = init(wb)
    run.log({"a": 1}, step=0, commit=True)
    run.log({"a": 2}, step=1, commit=True)
    st = run.step
    run.log({"a": 3})
    return done(run, step=st)


@scenario("log")
def log_commit_false_with_step(wb):
    run = init(wb)
    run.log({"a": 1}, step=0, commit=False)
    run.log({"b": 1}, step=0, commit=False)
    run.log({"a": 2}, step=1, commit=False)
    run.log({"a": 3}, step=1, commit=True)
    run.log({"a": 4})
    return done(run)


@scenario("log")
def log_commit_non_bool(wb):
    run = init(wb)
    r1 = exc(run.log, {"a": 1}, None, 0)
    r2 = exc(run.log, {"a": 2}, None, 1)
    r3 = exc(run.log, {"a": 3}, None, "yes")
    return done(run, r=[r1, r2, r3])


@scenario("log")
def log_step_float(wb):
    run = init(wb)
    r1 = exc(run.log, {"a": 1}, step=1.0)
    r2 = exc(run.log, {"a": 2}, step=2.7)
    run.log({"a": 3})
    return done(run, r1=r1, r2=r2)


@scenario("log")
def log_step_str(wb):
    run = init(wb)
    r = exc(run.log, {"a": 1}, step="1")
    run.log({"a": 3})
    return done(run, r=r)


@scenario("log")
def log_step_bool(wb):
    run = init(wb)
    r = exc(run.log, {"a": 1}, step=True)
    run.log({"a": 3})
    return done(run, r=r)


@scenario("log")
def log_step_huge(wb):
    run = init(wb)
    r1 = exc(run.log, {"a": 1}, step=2**53)
    r2 = exc(run.log, {"a": 2}, step=2**63)
    run.log({"a": 3})
    return done(run, r1=r1, r2=r2)


@scenario("log")
def log_positional_step_commit(wb):
    run = init(wb)
    run.log({"a": 1}, 3, True)
    run.log({"a": 2}, 7, False)
    run.log({"b": 2}, 7)
    run.log({"a": 4}, 8)
    return done(run)


@scenario("log")
def log_does_not_mutate_input(wb):
    run = init(wb)
    d = {"a": 1, "n": {"b": 2}}
    run.log(d)
    return done(run, after=plain(d))


@scenario("log")
def log_mutate_after_call(wb):
    """commit=False then mutating the dict must not change what was logged."""
    run = init(wb)
    d = {"a": 1, "l": [1, 2]}
    run.log(d, commit=False)
    d["a"] = 50
    d["l"].append(3)
    run.log({"b": 1})
    return done(run)


@scenario("log")
def log_module_level(wb):
    run = init(wb)
    wb.log({"a": 1})
    wb.log({"a": 2}, step=4)
    same = wb.run is run
    out = done(run, same=same)
    out["run_after_finish"] = plain(wb.run)
    return out


@scenario("log")
def log_after_finish_errors(wb):
    run = init(wb)
    run.log({"a": 1})
    out = done(run)
    out["log"] = exc(run.log, {"a": 2})
    out["summary_set"] = exc(lambda: run.summary.update({"z": 1}))
    out["summary_get"] = exc(lambda: dict(run.summary))
    out["config_update"] = exc(lambda: run.config.update({"z": 1}))
    out["define_metric"] = exc(lambda: run.define_metric("q"))
    out["save"] = exc(lambda: run.save("x"))
    out["set_name"] = exc(lambda: setattr(run, "name", "zzz"))
    out["set_tags"] = exc(lambda: setattr(run, "tags", ("zzz",)))
    out["set_notes"] = exc(lambda: setattr(run, "notes", "zzz"))
    out["status"] = exc(lambda: run.status())
    out["alert"] = exc(lambda: run.alert("t", "x"))
    out["mark_preempting"] = exc(lambda: run.mark_preempting())
    out["finish_again"] = exc(lambda: run.finish())
    out["write_logs"] = exc(lambda: run.write_logs("x"))
    out["id_ok"] = run.id == run.id and isinstance(run.id, str)
    out["step"] = exc(lambda: run.step)
    return out


# ==========================================================================
# B. log(): keys
# ==========================================================================
@scenario("keys")
def key_nested_dict(wb):
    run = init(wb)
    run.log({"a": {"b": 1, "c": {"d": 2.5}}, "e": 3})
    return done(run)


@scenario("keys")
def key_nested_partial_updates(wb):
    run = init(wb)
    run.log({"a": {"b": 1}}, commit=False)
    run.log({"a": {"c": 2}})
    run.log({"a": {"b": 5}})
    return done(run)


@scenario("keys")
def key_dotted_vs_nested(wb):
    run = init(wb)
    run.log({"a.b": 1, "a": {"b": 2}})
    run.log({"a.b": 3})
    run.log({"a": {"b": 4}})
    return done(run)


@scenario("keys")
def key_scalar_then_nested(wb):
    """same key first scalar, later dict (and back)."""
    run = init(wb)
    run.log({"a": 1})
    run.log({"a": {"b": 2}})
    mid = snap(run)
    run.log({"a": 3})
    return done(run, mid=mid)


@scenario("keys")
def key_scalar_then_nested_same_step(wb):
    run = init(wb)
    run.log({"a": 1}, commit=False)
    run.log({"a": {"b": 2}})
    run.log({"a": {"b": 2}}, commit=False)
    run.log({"a": 9})
    return done(run)


@scenario("keys")
def key_empty_nested_dict(wb):
    run = init(wb)
    run.log({"a": {}, "b": 1})
    run.log({"a": {"x": {}}})
    run.log({"b": 2})
    return done(run)


@scenario("keys")
def key_non_string(wb):
    run = init(wb)
    out = {}
    for name, k in (("int", 1), ("float", 1.5), ("none", None), ("tuple", ("a", "b")), ("bool", True)):
        out[name] = exc(run.log, {k: 1})
    run.log({"ok": 1})
    return done(run, **out)


@scenario("keys")
def key_str_subclass(wb):
    class S(str):
        pass

    class E(str, enum.Enum):
        A = "enumkey"

    run = init(wb)
    r = [exc(run.log, {S("sub"): 1}), exc(run.log, {E.A: 2}), exc(run.log, {np().str_("npstr"): 3})]
    return done(run, r=r)


@scenario("keys")
def key_reserved_step(wb):
    run = init(wb)
    r = exc(run.log, {"_step": 50, "x": 1})
    st = run.step
    run.log({"x": 2})
    return done(run, r=r, step=st)


# ==========================================================================
# C. log(): values
# ==========================================================================
@scenario("values")
def val_scalars(wb):
    run = init(wb)
    run.log({"i": 1, "f": 1.5, "f_int": 2.0, "s": "hello", "t": True, "fl": False, "neg": -3, "zero": 0})
    return done(run)


@scenario("values")
def val_nan_then_number(wb):
    run = init(wb)
    for v in (1.0, NAN, 3.0):
        run.log({"x": v})
    return done(run)


@scenario("values")
def val_int_extremes(wb):
    run = init(wb)
    out = {}
    for name, v in (
        ("p53", 2**53 + 1),
        ("i64max", 2**63 - 1),
        ("i64min", -(2**63)),
        ("u64", 2**64),
        ("huge", 10**30),
    ):
        out[name] = exc(run.log, {name: v})
    return done(run, **out)


@scenario("values")
def val_lists(wb):
    run = init(wb)
    run.log(
        {
            "l": [1, 2, 3],
            "t": (1, 2),
            "empty": [],
            "nested": [[1], [2, {"a": 1}]],
            "mixed": [1, "a", None, 2.5, True],
        }
    )
    return done(run)


@scenario("values")
def val_sets(wb):
    run = init(wb)
    r1 = exc(run.log, {"s": {1}})
    r2 = exc(run.log, {"fs": frozenset([1])})
    return done(run, r1=r1, r2=r2)


@scenario("values")
def val_numpy_arrays(wb):
    n = np()
    run = init(wb)
    run.log(
        {
            "a0": n.array(3.5),
            "a1": n.array([7]),
            "a11": n.array([[9]]),
            "a3": n.array([1, 2, 3]),
            "m": n.eye(2),
            "e": n.array([]),
            "a32": n.arange(32),
        }
    )
    return done(run)


@scenario("values")
def val_numpy_array_33_becomes_histogram(wb):
    run = init(wb)
    run.log({"a": np().arange(33)})
    run.log({"b": np().ones((10, 10))})
    return done(run)


@scenario("values")
def val_numpy_array_nan(wb):
    n = np()
    run = init(wb)
    r1 = exc(run.log, {"small": n.array([1.0, n.nan, n.inf])})
    r2 = exc(run.log, {"big": n.array([1.0] * 40 + [n.nan])})
    r3 = exc(run.log, {"one": n.array([n.nan])})
    return done(run, r1=r1, r2=r2, r3=r3)


@scenario("values")
def val_numpy_strings_objects(wb):
    n = np()
    run = init(wb)
    r1 = exc(run.log, {"s": n.array(["a", "b"])})
    r2 = exc(run.log, {"o": n.array([{"a": 1}, None], dtype=object)})
    r3 = exc(run.log, {"bigs": n.array(["a"] * 40)})
    return done(run, r1=r1, r2=r2, r3=r3)


@scenario("values")
def val_datetime(wb):
    run = init(wb)
    r = [
        exc(run.log, {"dt": datetime.datetime(2024, 1, 2, 3, 4, 5)}),
        exc(run.log, {"dtz": datetime.datetime(2024, 1, 2, tzinfo=datetime.timezone.utc)}),
        exc(run.log, {"d": datetime.date(2024, 1, 2)}),
        exc(run.log, {"td": datetime.timedelta(seconds=90)}),
    ]
    return done(run, r=r)


class _Color(enum.Enum):
    RED = 1


@dataclasses.dataclass
class _DC:
    a: int = 1
    b: str = "x"


class _Obj:
    pass


@scenario("values")
def val_python_objects(wb):
    run = init(wb)
    out = {}
    for name, v in (
        ("enum", _Color.RED),
        ("decimal", decimal.Decimal("1.25")),
        ("fn", len),
        ("lambda", (lambda: 1)),
        ("cls", _Obj),
        ("dc", _DC()),
        ("obj", _Obj()),
        ("complex", 1 + 2j),
        ("range", range(3)),
        ("gen", (i for i in range(2))),
        ("exc", ValueError("x")),
    ):
        out[name] = exc(run.log, {name: v})
    run.log({"ok": 1})
    return done(run, **out)


@scenario("values")
def val_nested_numpy_in_dict_list(wb):
    n = np()
    run = init(wb)
    run.log(
        {
            "d": {"a": n.float32(0.5), "b": n.array([1, 2])},
            "l": [n.float32(0.5), n.int64(2)],
            "big": {"h": n.arange(50)},
        }
    )
    return done(run)


@scenario("values")
def val_bool_minmax(wb):
    run = init(wb)
    run.define_metric("b", summary="min,max,mean,last,first")
    for v in (True, False, True):
        run.log({"b": v})
    return done(run)


@scenario("values", needs="torch")
def val_torch(wb):
    torch = __import__("torch")
    run = init(wb)
    r = [
        exc(run.log, {"scalar": torch.tensor(1.5)}),
        exc(run.log, {"one": torch.tensor([2.5])}),
        exc(run.log, {"int": torch.tensor(3)}),
        exc(run.log, {"vec": torch.arange(4)}),
        exc(run.log, {"grad": torch.tensor(4.5, requires_grad=True)}),
        exc(run.log, {"gradvec": torch.ones(3, requires_grad=True)}),
        exc(run.log, {"big": torch.zeros(50)}),
        exc(run.log, {"bf16": torch.tensor(1.5, dtype=torch.bfloat16)}),
        exc(run.log, {"bf16v": torch.ones(3, dtype=torch.bfloat16)}),
        exc(run.log, {"nan": torch.tensor(float("nan"))}),
        exc(run.log, {"bool": torch.tensor(True)}),
        exc(run.log, {"nested": {"t": torch.tensor(1.0)}}),
    ]
    run.summary["s"] = torch.tensor(1.5)
    run.config.update({"c": torch.tensor(1.5)})
    return done(run, r=r)


# --------------------------------------------------------------------------
# media / data types (no third party deps)
# --------------------------------------------------------------------------
@scenario("media")
def media_histogram(wb):
    run = init(wb)
    run.log({"h": wb.Histogram([1, 2, 3, 4, 5], num_bins=4)})
    run.log({"h2": wb.Histogram(np_histogram=([1, 2], [0, 1, 2]))})
    return done(run)


@scenario("media")
def media_table(wb):
    run = init(wb)
    t = wb.Table(columns=["a", "b"], data=[[1, "x"], [2, "y"]])
    run.log({"tbl": t})
    return done(run)


@scenario("media")
def media_html(wb):
    run = init(wb)
    run.log({"html": wb.Html("<p>hi</p>")})
    return done(run)


@scenario("media")
def media_plot_line(wb):
    run = init(wb)
    t = wb.Table(columns=["x", "y"], data=[[0, 1], [1, 2]])
    run.log({"chart": wb.plot.line(t, "x", "y", title="T")})
    return done(run)


# ==========================================================================
# D. summary
# ==========================================================================


@scenario("summary")
def sum_manual_new_key(wb):
    run = init(wb)
    run.summary["best"] = 5
    run.summary.update({"u": 1, "v": {"w": 2}})
    run.summary.attr = 7
    got = exc(lambda: run.summary["best"])
    miss = exc(lambda: run.summary["nope"])
    get = exc(lambda: run.summary.get("nope", 42))
    attr = exc(lambda: run.summary.attr)
    attrmiss = exc(lambda: run.summary.zzz)
    return done(run, got=got, miss=miss, get=get, attr=attr, attrmiss=attrmiss)


@scenario("summary")
def sum_nested_set(wb):
    run = init(wb)
    run.summary["a"] = {"b": 1}
    run.summary["a"]["c"] = 2
    mid = snap(run)
    run.summary["a"]["d"] = {"e": 3}
    run.summary["a"]["d"]["f"] = 4
    return done(run, mid=mid)


@scenario("summary")
def sum_dict_over_logged_nested(wb):
    run = init(wb)
    run.log({"a": {"b": 1, "c": 2}})
    run.summary["a"] = {"z": 1}
    mid = snap(run)
    run.log({"a": {"b": 5}})
    return done(run, mid=mid)


@scenario("summary")
def sum_delete(wb):
    run = init(wb)
    run.log({"a": 1, "b": 2})
    del run.summary["a"]
    mid = snap(run)
    run.log({"a": 3})
    after = snap(run)
    d2 = exc(lambda: run.summary.__delitem__("nope"))
    return done(run, mid=mid, after=after, d2=d2)


@scenario("summary")
def sum_update_non_dict(wb):
    run = init(wb)
    r1 = exc(lambda: run.summary.update(None))
    r2 = exc(lambda: run.summary.update({"ok": 1}))
    return done(run, r=[r1, r2])


@scenario("summary")
def sum_api_surface(wb):
    run = init(wb)
    run.log({"a": 1, "b": 2})
    s = run.summary
    out = {
        "keys": sorted(k for k in s.keys()),
        "in": exc(lambda: "a" in s),
        "iter": exc(lambda: sorted(list(iter(s)))),
        "len": exc(lambda: len(s)),
        "items": exc(lambda: sorted(s.items())),
        "values": exc(lambda: list(s.values())),
        "pop": exc(lambda: s.pop("a")),
        "asdict": exc(lambda: sorted(s._as_dict().keys())),
        "wandb_key_hidden": "_wandb" in list(s.keys()),
    }
    return done(run, **out)


@scenario("summary")
def sum_pending_not_visible(wb):
    run = init(wb)
    run.log({"a": 1}, commit=False)
    a = snap(run)
    run.log({"b": 1})
    b = snap(run)
    return done(run, a=a, b=b)


@scenario("summary")
def sum_dotted_key_manual(wb):
    run = init(wb)
    run.summary["a.b"] = 1
    run.log({"a": {"b": 2}})
    run.summary["c/d"] = 3
    return done(run)


@scenario("summary")
def sum_override_sub_key_of_defined(wb):
    """run.summary['x']['min'] = ... on {'min','max'}"""
    run = init(wb)
    run.define_metric("x", summary="min,max")
    run.log({"x": 5})
    run.summary["x"]["min"] = -1
    b = snap(run)
    run.log({"x": 7})
    return done(run, b=b)


@scenario("summary")
def sum_set_none_metric_manual(wb):
    """summary='none' hides even a manual value?"""
    run = init(wb)
    run.define_metric("x", summary="none")
    run.log({"x": 5})
    run.summary["x"] = 42
    a = snap(run)
    run.log({"x": 6})
    return done(run, a=a)


# ==========================================================================
# E. define_metric
# ==========================================================================
def _dm(wb, summary, values, **kw):
    run = init(wb)
    run.define_metric("x", summary=summary, **kw)
    for v in values:
        run.log({"x": v})
    return done(run)


@scenario("define_metric")
def dm_min(wb):
    return _dm(wb, "min", (3, 1, 2))


@scenario("define_metric")
def dm_mean(wb):
    return _dm(wb, "mean", (1, 2, 4))


@scenario("define_metric")
def dm_copy_with_min(wb):
    return _dm(wb, "copy,min", (7, 2, 4))


@scenario("define_metric")
def dm_none(wb):
    return _dm(wb, "none", (7, 2, 4))


@scenario("define_metric")
def dm_none_with_min(wb):
    return _dm(wb, "none,min", (7, 2, 4))


@scenario("define_metric")
def dm_all_types(wb):
    return _dm(wb, "min,max,mean,last,first", (5, 1, 9, 4))


@scenario("define_metric")
def dm_floats(wb):
    return _dm(wb, "min,max,mean,last,first", (0.1, 0.2, 0.3))


@scenario("define_metric")
def dm_never_logged(wb):
    return _dm(wb, "min,max,mean,last,first", ())


@scenario("define_metric")
def dm_best_no_goal(wb):
    run = init(wb)
    r = exc(lambda: run.define_metric("x", summary="best"))
    for v in (3, 1, 2):
        run.log({"x": v})
    return done(run, r=r)


@scenario("define_metric")
def dm_best_minimize(wb):
    run = init(wb)
    r = exc(lambda: run.define_metric("x", summary="best", goal="minimize"))
    for v in (3, 1, 2):
        run.log({"x": v})
    return done(run, r=r)


@scenario("define_metric")
def dm_best_maximize(wb):
    run = init(wb)
    r = exc(lambda: run.define_metric("x", summary="best", goal="maximize"))
    for v in (1, 3, 2):
        run.log({"x": v})
    return done(run, r=r)


@scenario("define_metric")
def dm_goal_only(wb):
    run = init(wb)
    r = exc(lambda: run.define_metric("x", goal="minimize"))
    r2 = exc(lambda: run.define_metric("x", goal="banana"))
    for v in (1, 3, 2):
        run.log({"x": v})
    return done(run, r=r, r2=r2)


@scenario("define_metric")
def dm_mean_with_nan(wb):
    return _dm(wb, "mean", (1.0, NAN, 3.0))


@scenario("define_metric")
def dm_minmax_with_nan_first(wb):
    return _dm(wb, "min,max,mean,last,first", (NAN, 1.0, 3.0))


@scenario("define_metric")
def dm_minmax_with_nan_last(wb):
    return _dm(wb, "min,max,mean,last,first", (1.0, 3.0, NAN))


@scenario("define_metric")
def dm_with_none_values(wb):
    return _dm(wb, "min,max,mean,last,first", (None, 2, None, 4))


@scenario("define_metric")
def dm_with_string_values(wb):
    return _dm(wb, "min,max,last,first", ("a", "b"))


@scenario("define_metric")
def dm_mean_only_strings(wb):
    """0/0"""
    return _dm(wb, "mean", ("a", "b"))


@scenario("define_metric")
def dm_mixed_string_numbers(wb):
    return _dm(wb, "min,max,mean,last,first", (5, "a", 1))


@scenario("define_metric")
def dm_histogram_values(wb):
    return _dm(wb, "min,last", (wb.Histogram([1, 2, 3], num_bins=2),))


@scenario("define_metric")
def dm_mixed_int_float(wb):
    return _dm(wb, "min,max,mean,last,first", (1, 2.5, 4))


@scenario("define_metric")
def dm_return_value(wb):
    run = init(wb)
    m = run.define_metric("x", step_metric="e", summary="MIN,max", hidden=True)
    obs = dict(
        name=m.name,
        step_metric=m.step_metric,
        step_sync=m.step_sync,
        summary=plain(m.summary),
        hidden=m.hidden,
        type=type(m).__name__,
    )
    m2 = run.define_metric("y")
    obs2 = dict(
        name=m2.name,
        step_metric=m2.step_metric,
        step_sync=m2.step_sync,
        summary=plain(m2.summary),
        hidden=m2.hidden,
    )
    return done(run, m=obs, m2=obs2)


@scenario("define_metric")
def dm_errors(wb):
    run = init(wb)
    D = run.define_metric
    out = {
        "empty_name": exc(D, ""),
        "none_name": exc(D, None),
        "int_name": exc(D, 5),
        "zero_name": exc(D, 0),
        "bad_summary": exc(D, "x", summary="median"),
        "space_summary": exc(D, "x", summary="min, max"),
        "trailing_comma": exc(D, "x", summary="min,"),
        "list_summary": exc(D, "x", summary=["min"]),
        "step_metric_int": exc(D, "x", step_metric=5),
        "step_sync_str": exc(D, "x", step_sync="yes"),
        "step_sync_int": exc(D, "x", step_sync=1),
        "hidden_int": exc(D, "x", hidden=1),
        "overwrite_str": exc(D, "x", overwrite="y"),
        "mid_glob": exc(D, "a*b"),
        "double_glob": exc(D, "a**"),
        "leading_glob": exc(D, "*/loss"),
        "glob_only": exc(D, "*"),
        "question_glob": exc(D, "a?"),
        "unknown_kw": exc(lambda: D("x", foo=1)),
    }
    return done(run, **out)


@scenario("define_metric")
def dm_step_sync_false(wb):
    run = init(wb)
    run.define_metric("loss", step_metric="epoch", step_sync=False)
    run.log({"epoch": 5, "loss": 2})
    run.log({"loss": 3})
    return done(run)


@scenario("define_metric")
def dm_step_sync_true_no_step_metric(wb):
    run = init(wb)
    run.define_metric("loss", step_sync=True)
    run.log({"epoch": 5, "loss": 2})
    run.log({"loss": 3})
    return done(run)


@scenario("define_metric")
def dm_step_metric_object(wb):
    run = init(wb)
    ep = run.define_metric("epoch")
    run.define_metric("loss", step_metric=ep)
    run.log({"epoch": 2})
    run.log({"loss": 3})
    return done(run)


@scenario("define_metric")
def dm_step_metric_not_defined(wb):
    run = init(wb)
    run.define_metric("loss", step_metric="epoch")
    run.log({"epoch": 2})
    run.log({"loss": 3})
    return done(run)


@scenario("define_metric")
def dm_step_metric_float_and_string(wb):
    run = init(wb)
    run.define_metric("loss", step_metric="t")
    run.log({"t": 1.5})
    run.log({"loss": 1})
    run.log({"t": "str"})
    run.log({"loss": 2})
    run.log({"t": NAN})
    run.log({"loss": 3})
    run.log({"t": True})
    run.log({"loss": 4})
    return done(run)


@scenario("define_metric")
def dm_step_metric_is_timestamp(wb):
    run = init(wb)
    run.define_metric("loss", step_metric="_timestamp")
    run.log({"loss": 1})
    return done(run)


@scenario("define_metric")
def dm_step_metric_summary(wb):
    """auto inserted step metric takes part in its own summary stats."""
    run = init(wb)
    run.define_metric("epoch", summary="max,min,mean")
    run.define_metric("loss", step_metric="epoch", summary="min")
    run.log({"epoch": 4})
    run.log({"loss": 3})
    run.log({"loss": 2})
    run.log({"epoch": 1})
    return done(run)


@scenario("define_metric")
def dm_step_metric_self(wb):
    run = init(wb)
    r = exc(lambda: run.define_metric("a", step_metric="a"))
    run.log({"a": 3})
    run.log({"b": 2})
    return done(run, r=r)


@scenario("define_metric")
def dm_step_metric_nested(wb):
    run = init(wb)
    run.define_metric("m.loss", step_metric="m.epoch")
    run.log({"m": {"epoch": 4}})
    run.log({"m": {"loss": 1}})
    return done(run)


@scenario("define_metric")
def dm_step_metric_dotted_literal_key(wb):
    """step metric logged under a literal dotted key."""
    run = init(wb)
    run.define_metric("loss", step_metric="m.epoch")
    run.log({"m.epoch": 4})
    run.log({"loss": 1})
    return done(run)


@scenario("define_metric")
def dm_step_metric_slash(wb):
    run = init(wb)
    run.define_metric("train/step")
    run.define_metric("train/*", step_metric="train/step")
    run.log({"train/step": 3, "train/loss": 1})
    run.log({"train/loss": 2, "train/acc": 5})
    run.log({"val/loss": 2})
    return done(run)


@scenario("define_metric")
def dm_glob_basic(wb):
    run = init(wb)
    run.define_metric("train/*", summary="min")
    run.log({"train/a": 3, "train/b": 5, "val/a": 7})
    run.log({"train/a": 1, "train/b": 9, "val/a": 8})
    return done(run)


@scenario("define_metric")
def dm_glob_star(wb):
    run = init(wb)
    run.define_metric("*", summary="max")
    run.log({"a": 3, "n": {"b": 5}, "s": "x", "_under": 1})
    run.log({"a": 1, "n": {"b": 4}, "s": "y", "_under": 0})
    return done(run)


@scenario("define_metric")
def dm_glob_nested_dot(wb):
    run = init(wb)
    run.define_metric("m.*", summary="max")
    run.log({"m": {"a": 3, "deep": {"b": 1}}})
    run.log({"m": {"a": 1, "deep": {"b": 0}}})
    return done(run)


@scenario("define_metric")
def dm_explicit_after_glob_expansion(wb):
    """explicit define after the glob was expanded merges with the expansion."""
    run = init(wb)
    run.define_metric("train/*", summary="min")
    run.log({"train/a": 3})
    run.define_metric("train/a", summary="max")
    run.log({"train/a": 1})
    run.log({"train/a": 9})
    return done(run)


@scenario("define_metric")
def dm_glob_redefined(wb):
    """second define of the same glob: merge for new keys only."""
    run = init(wb)
    run.define_metric("t/*", summary="min")
    run.log({"t/a": 1})
    run.define_metric("t/*", summary="max")
    run.log({"t/a": 5, "t/b": 2})
    run.log({"t/a": 3, "t/b": 1})
    return done(run)


@scenario("define_metric")
def dm_glob_none_then_specific(wb):
    run = init(wb)
    run.define_metric("*", summary="none")
    run.define_metric("keep", summary="max")
    run.log({"keep": 1, "drop": 2})
    run.log({"keep": 0, "drop": 3})
    return done(run)


@scenario("define_metric")
def dm_glob_hidden(wb):
    run = init(wb)
    run.define_metric("t/*", hidden=True)
    run.log({"t/a": 1})
    return done(run)


@scenario("define_metric")
def dm_nested_dotted_name(wb):
    run = init(wb)
    run.define_metric("a.b", summary="min,max")
    run.log({"a": {"b": 3, "c": 1}})
    run.log({"a": {"b": 1, "c": 2}})
    return done(run)


@scenario("define_metric")
def dm_dotted_literal_key_escaped(wb):
    run = init(wb)
    run.define_metric("a\\.b", summary="min")
    run.log({"a.b": 3})
    run.log({"a.b": 5})
    return done(run)


@scenario("define_metric")
def dm_parent_of_nested(wb):
    """define_metric on a key whose value is a dict."""
    run = init(wb)
    run.define_metric("a", summary="min")
    run.log({"a": {"b": 3}})
    run.log({"a": {"b": 1}})
    return done(run)


@scenario("define_metric")
def dm_overwrite_mid_run(wb):
    run = init(wb)
    run.define_metric("x", summary="min")
    run.log({"x": 5})
    run.log({"x": 1})
    run.define_metric("x", summary="max", overwrite=True)
    a = snap(run)
    run.log({"x": 3})
    return done(run, a=a)


@scenario("define_metric")
def dm_merge_step_metric(wb):
    run = init(wb)
    run.define_metric("x", step_metric="e")
    run.define_metric("x", summary="min")
    run.log({"e": 3})
    run.log({"x": 5})
    run.define_metric("x", step_metric="f")
    run.log({"f": 8})
    run.log({"x": 6})
    return done(run)


@scenario("define_metric")
def dm_merge_min_then_none(wb):
    run = init(wb)
    run.define_metric("x", summary="min")
    for v in (5, 1):
        run.log({"x": v})
    run.define_metric("x", summary="none")
    a = snap(run)
    run.log({"x": 9})
    return done(run, a=a)


@scenario("define_metric")
def dm_merge_step_sync_off(wb):
    """a later step_sync=False does not switch it off."""
    run = init(wb)
    run.define_metric("x", step_metric="e")
    run.define_metric("x", step_metric="e", step_sync=False)
    run.log({"e": 3})
    run.log({"x": 5})
    return done(run)


@scenario("define_metric")
def dm_system_keys(wb):
    run = init(wb)
    run.define_metric("_step", summary="max")
    run.define_metric("_runtime", summary="none")
    run.define_metric("_timestamp", summary="none")
    run.log({"a": 1})
    run.log({"a": 2})
    return done(run)


@scenario("define_metric")
def dm_module_level(wb):
    run = init(wb)
    wb.define_metric("x", summary="max")
    wb.log({"x": 2})
    wb.log({"x": 1})
    return done(run)


@scenario("define_metric")
def dm_min_with_explicit_steps(wb):
    run = init(wb)
    run.define_metric("x", summary="min,mean,first,last")
    run.log({"x": 4}, step=0)
    run.log({"x": 2}, step=10)
    run.log({"x": 99}, step=5)  # ignored
    run.log({"x": 6}, step=20)
    return done(run)


# ==========================================================================
# F. config
# ==========================================================================
@scenario("config")
def cfg_init_dict(wb):
    run = init(
        wb, config={"lr": 0.1, "n": {"a": 1, "b": [1, 2]}, "none": None, "t": (1, 2), "s": "x", "b": True}
    )
    out = {
        "lr": plain(run.config["lr"]),
        "attr": plain(run.config.lr),
        "n": plain(run.config["n"]),
        "t": plain(run.config["t"]),
        "keys": sorted(run.config.keys()),
        "items": sorted(k for k, _ in run.config.items()),
        "in": "lr" in run.config,
        "get": plain(run.config.get("zz", 3)),
        "miss": exc(lambda: run.config["zz"]),
        "attrmiss": exc(lambda: run.config.zz),
        "dict": exc(lambda: sorted(dict(run.config))),
        "iter": exc(lambda: sorted(iter(run.config))),
        "len": exc(lambda: len(run.config)),
        "as_dict": exc(lambda: sorted(run.config.as_dict())),
    }
    return done(run, **out)


@scenario("config")
def cfg_set_item_attr(wb):
    run = init(wb)
    run.config["a"] = 1
    run.config.b = 2
    run.config["n"] = {"x": 1}
    again_same = exc(lambda: run.config.__setitem__("a", 1))
    again_diff = exc(lambda: run.config.__setitem__("a", 5))
    attr_diff = exc(lambda: setattr(run.config, "b", 5))
    return done(run, again_same=again_same, again_diff=again_diff, attr_diff=attr_diff)


@scenario("config")
def cfg_update_conflict(wb):
    run = init(wb, config={"a": 1})
    same = exc(lambda: run.config.update({"a": 1}))
    diff = exc(lambda: run.config.update({"a": 2}))
    mixed = exc(lambda: run.config.update({"new": 1, "a": 2}))
    allow = exc(lambda: run.config.update({"a": 3}, allow_val_change=True))
    after = exc(lambda: run.config["a"])
    return done(run, same=same, diff=diff, mixed=mixed, allow=allow, after=after)


@scenario("config")
def cfg_dash_stripping(wb):
    run = init(wb, config={"--lr": 0.1, "-x-": 2, "a-b": 3})
    run.config["--z"] = 4
    return done(run, keys=sorted(run.config.keys()))


@scenario("config")
def cfg_underscore_keys_hidden(wb):
    run = init(wb, config={"_hidden": 1, "ok": 2})
    return done(
        run,
        keys=sorted(run.config.keys()),
        has="_hidden" in run.config,
        direct=exc(lambda: run.config["_hidden"]),
    )


@scenario("config")
def cfg_yaml_file(wb):
    with open("c.yaml", "w") as f:
        f.write("lr:\n  value: 0.5\n  desc: d\nn:\n  value:\n    a: 1\n")
    run = init(wb, config="c.yaml")
    return done(run)


@scenario("config")
def cfg_defaults_yaml(wb):
    with open("config-defaults.yaml", "w") as f:
        f.write("wandb_version: 1\nlr:\n  value: 0.5\nm:\n  value: 3\n")
    run = init(wb, config={"lr": 0.7})
    r = exc(lambda: run.config.update({"m": 4}))
    return done(run, r=r)


@scenario("config")
def cfg_setdefaults(wb):
    run = init(wb, config={"a": 1})
    run.config.setdefaults({"a": 5, "b": 6})
    return done(run)


@scenario("config")
def cfg_update_locked(wb):
    run = init(wb, config={"a": 1, "b": {"x": 1}})
    run.config.update_locked({"a": 10}, user="sweep", _allow_val_change=True)
    r1 = exc(lambda: run.config.update({"a": 11, "c": 1}))
    r2 = exc(lambda: run.config.__setitem__("a", 12))
    r3 = exc(lambda: run.config.update({"a": 13}, allow_val_change=True))
    return done(run, r=[r1, r2, r3])


@scenario("config")
def cfg_merge_locked(wb):
    run = init(wb, config={"b": {"x": 1, "y": 2}})
    run.config.merge_locked({"b": {"x": 5}}, user="sweep", _allow_val_change=True)
    return done(run)


@scenario("config")
def cfg_static(wb):
    run = init(wb, config={"a": 1, "n": {"x": 1}})
    cs = run.config_static
    out = {
        "a": plain(cs.a),
        "item": plain(cs["a"]),
        "keys": sorted(cs.keys()),
        "set_attr": exc(lambda: setattr(cs, "a", 2)),
        "set_item": exc(lambda: cs.__setitem__("a", 2)),
        "miss": exc(lambda: cs["zz"]),
        "missattr": exc(lambda: cs.zz),
        "type": type(cs).__name__,
        "dict": exc(lambda: sorted(dict(cs))),
    }
    run.config["later"] = 1
    out["stale"] = "later" in list(cs.keys())
    return done(run, **out)


@scenario("config")
def cfg_delete_pop(wb):
    run = init(wb, config={"a": 1})
    r1 = exc(lambda: run.config.__delitem__("a"))
    r2 = exc(lambda: run.config.pop("a"))
    return done(run, r=[r1, r2])


@scenario("config")
def cfg_from_config(wb):
    run = init(wb, config={"a": 1})
    c = run.config
    done(run)
    run2 = init(wb, config=c)
    return done(run2)


@scenario("config")
def cfg_wandb_key(wb):
    run = init(wb, config={"_wandb": {"x": 1}, "wandb_version": 2, "a": 1})
    return done(run)


# ==========================================================================
# G. properties, lifecycle, errors
# ==========================================================================
@scenario("run")
def run_properties(wb):
    run = init(
        wb, id="abc123", name="nm", notes="nt", tags=["a", "b"], group="g", job_type="jt", entity="ent"
    )
    out = dict(
        id=run.id,
        name=run.name,
        notes=run.notes,
        tags=plain(run.tags),
        tags_type=type(run.tags).__name__,
        group=run.group,
        job_type=run.job_type,
        entity=run.entity,
        project=run.project,
        path=run.path,
        resumed=run.resumed,
        offline=run.offline,
        disabled=run.disabled,
        sweep_id=run.sweep_id,
        url=run.url,
        project_url=run.project_url,
        sweep_url=run.sweep_url,
        start_time_type=type(run.start_time).__name__,
        step=run.step,
        starting_step=run.starting_step,
        dir_base=os.path.basename(run.dir),
        dir_is_abs=os.path.isabs(run.dir),
        dir_exists=os.path.isdir(run.dir),
        get_url=exc(lambda: run.get_url()),
        project_name=exc(lambda: run.project_name()),
        join=hasattr(run, "join"),
        mode=hasattr(run, "mode"),
        plot_table=hasattr(run, "plot_table"),
        history=hasattr(run, "history"),
        type=type(run).__name__,
        settings_type=type(run.settings).__name__,
        has_set_prop=exc(lambda: setattr(run, "group", "z")),
    )
    return done(run, **out)


@scenario("run")
def run_property_defaults(wb):
    run = wb.init()
    out = dict(
        id_len=len(run.id),
        id_alnum=run.id.isalnum() and run.id == run.id.lower(),
        name=plain(run.name),
        notes=plain(run.notes),
        tags=plain(run.tags),
        group=run.group,
        job_type=run.job_type,
        entity=run.entity,
        project=run.project,
        path_parts=len(run.path.split("/")),
        sweep_id=plain(run.sweep_id),
        resumed=run.resumed,
        starting_step=run.starting_step,
    )
    return done(run, **out)


@scenario("run")
def run_context_manager_sysexit_zero(wb):
    def f():
        with init(wb) as run:
            run.log({"a": 1})
            sys.exit(0)

    return {"r": exc(f)}


@scenario("run")
def run_no_finish_at_exit(wb):
    """no finish(): atexit completes the run."""
    run = init(wb)
    run.log({"a": 1})
    run.log({"b": 2}, commit=False)
    return {"keep": True}


@scenario("run", expect_rc=1)
def run_unhandled_exception(wb):
    run = init(wb)
    run.log({"a": 1})
    raise ValueError("unhandled")


@scenario("run", expect_rc=5)
def run_sys_exit_code(wb):
    run = init(wb)
    run.log({"a": 1})
    sys.exit(5)


@scenario("run")
def run_reinit_create_new(wb):
    r1 = init(wb)
    r2 = init(wb, reinit="create_new")
    r1.log({"a": 1})
    r2.log({"b": 1})
    glob = wb.run is r1
    glob2 = wb.run is r2
    o1 = done(r1)
    o2 = done(r2)
    return {"glob_first": glob, "glob_second": glob2, "o1": o1, "o2": o2}


@scenario("run")
def run_reinit_true_false(wb):
    r1 = init(wb)
    r2 = init(wb, reinit=False)
    a = r1 is r2
    r3 = init(wb, reinit=True)
    b = r1 is r3
    return done(r3, a=a, b=b)


@scenario("run")
def run_shared_mode_without_server(wb):
    """mode='shared' offline is not possible; record what happens with WANDB_MODE env offline + mode kw."""

    def f():
        s = wb.Settings(mode="offline", x_primary=False, x_label="rank1", x_update_finish_state=False)
        r = wb.init(project="diff", id="sh", settings=s)
        r.log({"a": 1}, step=5)
        o = {"step": r.step, "label": r.settings.x_label, "primary": r.settings.x_primary}
        r.finish()
        return o

    return {"r": exc(f)}


@scenario("run")
def run_console_capture(wb):
    run = init(wb, settings=wb.Settings(console="wrap"))
    print("hello stdout")
    print("hello stderr", file=sys.stderr)
    run.write_logs("explicit line")
    return done(run)


# ==========================================================================
# H. files & artifacts
# ==========================================================================


@scenario("files")
def artifact_names(wb):
    out = {}
    for nm in ("ok", "ok-1_2.3", "bad name", "bad/name", "bad:name", "", "x" * 129, "é"):
        out["name:" + nm[:20]] = exc(lambda: wb.Artifact(nm, "t").name)
    for ty in ("ok", "job", "wandb-history", "run_table", "code", "", "bad type", "t/u"):
        out["type:" + ty] = exc(lambda: wb.Artifact("ok", ty).type)
    a = wb.Artifact("ok", "t", description="d", metadata={"a": 1})
    out["meta"] = plain(a.metadata)
    out["bad_meta"] = exc(lambda: wb.Artifact("ok", "t", metadata=5))
    out["add_missing"] = exc(lambda: a.add_file("nope.txt"))
    open("f.txt", "w").write("hello")
    out["add"] = exc(lambda: a.add_file("f.txt").path)
    out["add2"] = exc(lambda: a.add_file("f.txt", name="sub/g.txt").path)
    out["digest"] = a.digest
    out["adddir_missing"] = exc(lambda: a.add_dir("nope"))
    out["conflict"] = exc(lambda: (open("f2.txt", "w").write("other"), a.add_file("f2.txt", name="f.txt")))
    return out


# ==========================================================================
# I. more: processes, threads, branching, odd exits, removed arguments
# ==========================================================================
@scenario("more", expect_rc=6)
def exit_raise_systemexit(wb):
    """raise SystemExit(6) does not go through sys.exit: recorded exit code?"""
    run = init(wb)
    run.log({"a": 1})
    raise SystemExit(6)


@scenario("more", expect_rc=1)
def exit_sys_exit_string(wb):
    run = init(wb)
    run.log({"a": 1})
    sys.exit("bye")


@scenario("more", expect_rc=0)
def exit_exception_caught(wb):
    run = init(wb)
    try:
        raise ValueError("x")
    except ValueError:
        pass
    run.log({"a": 1})


def _mp_child(run):
    run.log({"child": 1})
    run.summary["from_child"] = 5
    run.config.update({"child_cfg": 1})
    run.define_metric("child2", summary="max")
    run.log({"child2": 3})
    run.log({"child2": 2})


@scenario("more")
def branch_fork_from_offline(wb):
    def f():
        r = init(wb, fork_from="orig?_step=5", id="forked")
        o = {"id": r.id, "step": r.step, "starting_step": r.starting_step, "resumed": r.resumed}
        r.log({"a": 1})
        r.finish()
        return o

    return {
        "r": exc(f),
        "same_id": exc(lambda: init(wb, fork_from="x?_step=5", id="x")),
        "resume_from_other_id": exc(lambda: init(wb, resume_from="x?_step=5", id="y")),
    }


@scenario("more")
def init_settings_dict_and_precedence(wb):
    run = init(wb, name="arg", settings={"run_name": "setting", "run_group": "sg"})
    o = {"name": run.name, "group": run.group}
    return done(run, **o)


@scenario("more")
def init_notes_tags_update_stored(wb):
    run = init(wb, name="n1", notes="o1", tags=["t1"])
    run.name = "n2"
    run.notes = "o2"
    run.tags += ("t2",)
    return done(run)


@scenario("more")
def alert_variants(wb):
    run = init(wb)
    out = {
        "long_title": exc(lambda: run.alert("x" * 100, "t")),
        "lower_level": exc(lambda: run.alert("t", "x", level="warn")),
        "enum_level": exc(lambda: run.alert("t2", "x", level=wb.AlertLevel.ERROR)),
        "timedelta": exc(lambda: run.alert("t3", "x", wait_duration=datetime.timedelta(minutes=2))),
        "zero_wait": exc(lambda: run.alert("t4", "x", wait_duration=0)),
        "no_text": exc(lambda: run.alert("t5")),
    }
    return done(run, **out)


@scenario("more")
def upsert_finish_artifact_in_group(wb):
    open("f.txt", "w").write("hello")
    run = init(wb, group="grp")
    a = run.upsert_artifact("f.txt", name="dist", type="data")
    b = run.upsert_artifact("f.txt", name="dist2", type="data", distributed_id="did")
    c = run.finish_artifact("f.txt", name="dist", type="data")
    return done(
        run, names=[a.name, b.name, c.name], did=[a.distributed_id, b.distributed_id, c.distributed_id]
    )


@scenario("more")
def summary_nan_logged_last(wb):
    run = init(wb)
    run.log({"x": 1.0})
    run.log({"x": NAN})
    return done(run)


@scenario("more")
def define_metric_glob_expansion_uses_step_sync_same_row(wb):
    """first row of a glob-matched key already gets its step metric."""
    run = init(wb)
    run.define_metric("g/*", step_metric="gs", summary="last")
    run.log({"gs": 7})
    run.log({"g/a": 1})
    run.log({"g/b": 2, "gs": 9})
    run.log({"g/a": 3})
    return done(run)


@scenario("more")
def define_metric_summary_of_deep_nested(wb):
    run = init(wb)
    run.define_metric("a.b.c", summary="min,max")
    run.log({"a": {"b": {"c": 3}}})
    run.log({"a": {"b": {"c": 1, "d": 9}}})
    return done(run)


@scenario("more")
def define_metric_same_name_as_glob_prefix(wb):
    run = init(wb)
    run.define_metric("loss", summary="min")
    run.define_metric("loss*", summary="max")
    run.log({"loss": 3, "loss2": 3})
    run.log({"loss": 5, "loss2": 1})
    return done(run)


@scenario("more")
def big_row_1000_keys(wb):
    run = init(wb)
    run.log({"k%04d" % i: i for i in range(1000)})
    return {"n": len(done(run)["summary_live"])}


if __name__ == "__main__":
    print(len(SCENARIOS), "scenarios")
    for k, v in SCENARIOS.items():
        print("%-14s %s" % (v["group"], k))
