# ruff: noqa: PLW0108  # the look-up is part of the call that is made
"""More scenarios of the client, in the form of `scenarios.py`, each of many calls; client_oracle.json is what
wandb 0.31.0 did with them, offline and without a key. They need numpy.
"""

from __future__ import annotations

import argparse
import collections
import dataclasses
import datetime
import decimal
import enum
import fractions
import os
import pathlib
import types
import uuid

from registry import Registry
from scenarios import INF, NAN, done, exc, init, np, plain, snap

scenario = SCENARIOS = Registry()


class Color(enum.Enum):
    RED = 1
    BLUE = "b"


class Level(enum.IntEnum):
    LOW = 1


class Real(float):
    pass


class Whole(int):
    pass


class Told:
    def __str__(self):
        return "told"


@dataclasses.dataclass
class Point:
    x: int = 1
    y: list = dataclasses.field(default_factory=lambda: [1])


#: (data, step, commit) of the calls of one run each.
SEQUENCES = (
    [({"a": 1}, 0, None), ({"a": 2}, 1, None), ({"a": 3}, 5, None), ({"a": 4}, 10, None)],
    [({"a": 1}, 100, None), ({"b": 2}, None, None), ({"c": 3}, None, None)],
    [({"a": 1}, None, None), ({"b": 2}, 1, None), ({"c": 3}, None, None)],
    [({"a": 1}, None, False), ({"b": 1}, 7, None), ({"c": 1}, None, None)],
    [({"a": 1}, 4, False), ({"b": 1}, 4, True), ({"c": 1}, 5, True)],
    [({}, 3, None), ({}, 4, True), ({}, None, None), ({"a": 1}, None, False), ({}, None, False)],
    [({"n": {"a": 1, "b": 1}}, None, False), ({"n": {"b": 2, "c": 3}}, None, None), ({"n": 3}, None, None)],
    [({"n": {"a": 1, "b": {"c": 2}}}, None, False), ({"n": {"b": 5}}, None, None), ({"n.a": 1}, None, None)],
    [({"_timestamp": 5, "x": 1}, None, None), ({"_runtime": 7.5, "_step": 9, "_own": 2}, None, None)],
)


@scenario("log")
def sequences_of_calls(wb):
    out = []
    for calls in SEQUENCES:
        run = init(wb)
        steps, live = [], []
        for data, step, commit in calls:
            run.log(data, step=step, commit=commit)
            steps.append(run.step)
            live.append(snap(run))
        out.append({"steps": steps, "live": live})
        run.finish()
    return {"runs": out}


@scenario("log")
def arguments_of_log(wb):
    run, n = init(wb), np()
    steps = (n.int64(3), n.float32(4), None, 5.0, "6", True, [7], 2**62)
    commits = (0, 1, n.bool_(True), "x", None, 1.0, 2)
    data = (None, [("a", 1)], "a", 3, {1}, [], types.MappingProxyType({"m": 1}), collections.UserDict(u=1))
    return done(
        run,
        steps=[[exc(run.log, {"x": str(step)}, step=step), run.step] for step in steps],
        commits=[[exc(run.log, {"y": str(commit)}, commit=commit), run.step] for commit in commits],
        data=[[exc(run.log, one), run.step] for one in (*data, {1: 2}, {None: 1}, {"ok": 1, 2: 3})],
        others=[exc(run.log), exc(run.log, {"a": 1}, foo=1), exc(run.log, data={"a": 1}, step=None)],
    )


@scenario("keys")
def keys_of_all_kinds(wb):
    run = init(wb)
    odd = (
        " ",
        'a"b',
        "n\nl",
        "é漢",
        ".",
        "a.",
        ".a",
        "a..b",
        "\\",
        "a\\.b",
        "*",
        "a*",
        "k" * 300,
        "/x",
        "x/",
        "//",
    )
    run.log({key: number for number, key in enumerate(odd)})
    run.log({"": 1, "a": 2, "n": {"": 1, "a": 2}, "m": {"k": {}}, "l": [{}]})
    run.log({"n": {1: 1, 2.5: 2, None: 3, ("a", "b"): 4, Color.BLUE: 6, b"x": 7}, "l": [{1: 2, None: 3}]})
    return done(run)


def logged_values():
    n = np()
    return {
        "enum": Color.RED, "intenum": Level.LOW, "dataclass": Point(), "object": Told(), "real": Real(2.5),
        "whole": Whole(3), "fraction": fractions.Fraction(1, 3), "path": pathlib.Path("a/b"),
        "uuid": uuid.UUID(int=5), "decimal": decimal.Decimal("1.10"), "complex": 1 + 2j, "bytes": b"abc",
        "deque": collections.deque([1, 2]), "counter": collections.Counter("aab"), "space": types.SimpleNamespace(a=1),
        "time": datetime.datetime(2024, 1, 2, 3, 4, 5, 6), "utc": datetime.datetime(2024, 1, 2, tzinfo=datetime.UTC),
        "date": datetime.date(2024, 1, 2), "span": datetime.timedelta(days=1, seconds=2), "slice": slice(1, 2, 3),
        "type": int, "function": len, "set": {1}, "tuple": (1, (2, 3)), "mixed": [1, None, "a", {"b": (1,)}],
        "nan": NAN, "inf": INF, "list": [NAN, -INF], "big": 2**70, "range": range(3),
        "np_bool": n.bool_(True), "np_f16": n.float16(0.1), "np_str": n.str_("s"), "np_bytes": n.bytes_(b"s"),
        "np_date": n.datetime64("2024-01-02"), "np_span": n.timedelta64(5, "s"), "np_nan": n.float64("nan"),
        "np_0d": n.array(5), "np_1": n.array([5]), "np_2d": n.arange(6).reshape(2, 3), "np_0": n.array([]),
        "np_objects": n.array([1, "a"], dtype=object), "np_texts": n.array(["a", "b"]), "np_33": n.arange(33.0),
        "np_list": [n.float32(1), n.int8(2)], "np_dict": {"a": n.float32(1.5)}, "np_masked": n.ma.array([1, 2], mask=[0, 1]),
    }  # fmt: skip


@scenario("values")
def values_logged(wb):
    run = init(wb)
    return done(run, r={name: exc(run.log, {name: value}) for name, value in logged_values().items()})


@scenario("values")
def values_logged_inside(wb):
    run = init(wb)
    given = logged_values().items()
    return done(
        run, r={name: exc(run.log, {"n": {name: value}, "l": {name: [value]}}) for name, value in given}
    )


@scenario("values")
def values_in_the_summary(wb):
    run = init(wb)
    out = {}
    for name, value in logged_values().items():
        out[name] = exc(run.summary.update, {name: value})
        out[name + " inside"] = exc(run.summary.update, {name + "_": {"in": value, "l": [value]}})
    return done(run, r=out)


@scenario("values")
def values_in_the_config(wb):
    run = init(wb)
    out = {}
    for name, value in logged_values().items():
        if name != "complex":  # in the client's process it stays one
            out[name] = exc(run.config.update, {name: value})
            out[name + " inside"] = exc(run.config.update, {name + "_": {"in": value, "l": [value]}})
    return done(run, r=out)


def metric(made):
    return [made.name, made.step_metric, made.step_sync, plain(made.summary), made.hidden]


KINDS = (
    "",
    "min",
    "max",
    "mean",
    "last",
    "first",
    "copy",
    "none",
    "none,min",
    "copy,min",
    "MIN,Max",
    "min,min",
)


@scenario("define_metric")
def summaries_of_all_kinds(wb):
    run = init(wb)
    made = [exc(lambda kind=kind: metric(run.define_metric("x" + kind, summary=kind))) for kind in KINDS]
    for value in (3, 1, 2.5, 2**53 + 1, -7):
        run.log({"x" + kind: value for kind in KINDS})
    return done(run, made=made)


@scenario("define_metric")
def arguments_of_define_metric(wb):
    run = init(wb)
    names = (
        "",
        None,
        5,
        b"x",
        " x ",
        "a*b",
        "**",
        "*a",
        "a**",
        "*/x",
        "a.*.b",
        "*",
        "a\\*",
        "a?",
        "[a]",
        "*.*",
    )
    summaries = ("min, max", "min,", "bogus", "min;max", ",", "none,none", "max,bogus", " min", ["min"])
    others = ({"step_metric": 1}, {"step_metric": ""}, {"step_metric": "e*"}, {"step_sync": 1}, {"hidden": "y"},
              {"overwrite": 1}, {"step_metric": None, "step_sync": True}, {"foo": 1})  # fmt: skip
    out = {
        "names": [exc(lambda name=name: metric(run.define_metric(name))) for name in names],
        "summaries": [exc(lambda one=one: metric(run.define_metric("x", summary=one))) for one in summaries],
        "others": [exc(lambda given=given: metric(run.define_metric("x", **given))) for given in others],
        "places": exc(lambda: metric(run.define_metric("x", "e", True, False, "min", True))),
    }
    run.log({"a*": 1, "a?": 2, "x": 3})
    return done(run, r=out)


@scenario("define_metric")
def definitions_that_change(wb):
    run = init(wb)
    define, live = run.define_metric, []

    def log(data):
        run.log(data)
        live.append(snap(run))

    define("a*", summary="min", step_metric="s")
    define("ay", summary="max")
    define("n.*", summary="max")
    define("b", step_metric="e", step_sync=False)
    define("c", summary="none")
    define("h", hidden=True, summary="min")
    log({"ax": 1, "ay": 1, "n": {"a": 1, "b": {"c": 2}}, "b": 1, "c": 1, "h": 2})
    define("ax", summary="max")
    define("b", step_metric="e")
    define("c", summary="min")
    define("h", overwrite=True, summary="mean")
    log({"ax": 3, "ay": 0, "n": {"a": 0, "b": {"c": 1}}, "b": 2, "c": 3, "h": 4, "s": 2})
    define("a*", summary="max", overwrite=True)
    define("b", step_metric="f")
    log({"ax": 0, "az": 4, "b": 3, "e": 5, "f": 6, "n.a": 7, "c": 2})
    log({"az": 2, "b": 4, "h": 3})
    del run.summary["ax"]
    log({"ax": 2})
    return done(run, live=live)


@scenario("summary")
def calls_of_the_summary(wb):
    run = init(wb)
    s = run.summary
    s["a"], s.b = 1, 2
    s.update({"c": 3, "n": {"x": 1, "y": {"z": 2}}})
    given = (
        lambda: s["a"], lambda: s.a, lambda: s.get("zz"), lambda: s.get("zz", 5), lambda: s["zz"], lambda: s.zz,
        lambda: sorted(s.keys()), lambda: "a" in s, lambda: list(s), lambda: len(s), lambda: s.items(),
        lambda: s.values(), lambda: s.pop("a"), lambda: s["n"]["x"], lambda: s.n.y.z, lambda: s["n"].get("q", 1),
        lambda: dict(s["n"]), lambda: sorted(dict(s)), lambda: s.__setitem__(1, 2), lambda: s.update({1: 2}),
        lambda: s.update([("a", 1)]), lambda: s.update(q=1), lambda: s.update(), lambda: s.update(None),
        lambda: s.__delitem__("a"), lambda: s.__delitem__("zz"), lambda: delattr(s, "b"), lambda: delattr(s, "zz"),
        lambda: s.__setitem__("", 1), lambda: s.__setitem__("_own", 1), lambda: s.__setitem__("p.q", 1),
    )  # fmt: skip
    return done(run, r=[exc(one) for one in given])


@scenario("config")
def calls_of_the_config(wb):
    run = init(wb, config={"a": 1, "n": {"x": 1}})
    c = run.config
    given = (
        lambda: c["a"], lambda: c.a, lambda: c.get("zz", 1), lambda: c["zz"], lambda: c.zz, lambda: c["n"]["x"],
        lambda: "a" in c, lambda: sorted(c), lambda: len(c), lambda: sorted(c.items(), key=str), lambda: c.values(),
        lambda: c.pop("a"), lambda: c.__delitem__("a"), lambda: c.__setitem__("a", 1.0), lambda: c.__setitem__("a", 2),
        lambda: setattr(c, "a", 2), lambda: c.update(a=3), lambda: c.update({"a": 3}, allow_val_change=True),
        lambda: c.update({"a": 4, "b": 5}), lambda: "b" in c, lambda: c.update([("k", 1)]), lambda: c.update("str"),
        lambda: c.update(None), lambda: c.update(5), lambda: c.update(argparse.Namespace(ns=1)), lambda: c.update(),
        lambda: c.__setitem__(1, 2), lambda: c.__setitem__("", 2), lambda: c.__setitem__("a.b", 2),
        lambda: c.__setitem__("--x-y-", 2), lambda: c.update({"k": {1: 2, "y": {None: 3}}}),
        lambda: c.setdefaults({"a": 9, "d": 1}), lambda: c.setdefaults(5), lambda: setattr(run, "config", {}),
        lambda: run.pin_config_keys(("a", 1)), lambda: run.pin_config_keys("ab"), lambda: run.pin_config_keys(None),
    )  # fmt: skip
    return done(run, r=[exc(one) for one in given])


@scenario("run")
def what_can_be_set(wb):
    run = init(wb, id="r1", name="n1", notes="no", tags=["a", "b", "a"], group="g", job_type="j", entity="e")
    fixed = "id group job_type entity project path url sweep_id start_time step resumed offline dir settings foo".split()
    out = {name: exc(setattr, run, name, "zz") for name in fixed}
    for name in ("name", "notes"):
        for value in (5, None, "", "x" * 200, "a\nb"):
            out[f"{name} {value!r:.9}"] = [
                exc(setattr, run, name, value),
                plain(getattr(run, name)) if value else None,
            ]
    for value in (["a", "b"], ("c",), "ef", None, [], ["a", "a"], [""], ["x" * 65], [1], 7, ["y" * 64]):
        out[f"tags {value!r:.9}"] = [exc(setattr, run, "tags", value), plain(run.tags)]
    run.name, run.notes = "final", "said"
    return done(run, r=out)


@scenario("run")
def arguments_of_init(wb):
    given = (
        {"mode": "bogus"}, {"resume": "bogus"}, {"reinit": "bogus"}, {"tags": [""]}, {"tags": ["x" * 65]},
        {"tags": [1]}, {"id": "a/b"}, {"id": ""}, {"id": " a "}, {"id": "a?b"}, {"id": 5}, {"project": "a/b"},
        {"project": "p" * 129}, {"project": 7}, {"name": 5}, {"group": 5}, {"foo": 1}, {"fork_from": "x"},
        {"fork_from": "a/b?_step=1"}, {"fork_from": "x?foo=1"}, {"resume_from": "x?step=1"}, {"settings": {"bogus": 1}},
        {"fork_from": "x?_step=1", "resume_from": "y?_step=1"}, {"fork_from": "x?_step=1", "resume": "allow"},
        {"config": 5}, {"config": types.MappingProxyType({"a": 1})}, {"config": "nowhere.yaml"},
    )  # fmt: skip
    out = []
    for one in given:
        out.append(exc(lambda one=one: init(wb, **one).finish()))
        if wb.run is not None:
            wb.finish()
    run = init(wb, settings=5, config=argparse.Namespace(a=1, _own=2), fork_from="orig?_step=7")
    return done(run, r=out, starting=[run.starting_step, run.step])


@scenario("run")
def runs_beside_each_other(wb):
    out = []
    for reinit in (None, True, False, "finish_previous", "return_previous", "create_new"):
        first = init(wb, name="first", config={"x": 1})
        second = init(wb, name="second", config={"y": 2}, reinit=reinit)
        seen = [first is second, wb.run is first, wb.run is second, first.name, second.name]
        seen += [exc(first.log, {"i": 1}), exc(second.log, {"i": 2})]
        second.finish()
        out.append([*seen, wb.run is first, exc(first.log, {"i": 3})])
        first.finish()
    alone = init(wb, reinit="create_new")
    out.append(plain(wb.run))
    alone.finish()
    return {"r": out, "end": plain(wb.run)}


@scenario("run")
def codes_of_the_end(wb):
    out = []
    for code in (True, "a", 1.5, 2**40, None, 256, -1):
        run = init(wb, reinit="create_new")
        out.append(exc(run.finish, exit_code=code)["raised"])
        if out[-1] is None:
            out.append([exc(run.finish, 5), exc(run.log, {"a": 1})])
    return {"r": out}


@scenario("run")
def disabled_does_nothing(wb):
    first = init(wb, mode="disabled", config={"a": 1})
    run = init(wb, mode="disabled", config={"a": 1}, name="n")
    calls = {
        "log": ({1: 2},), "define_metric": ("a*b",), "save": ("*.txt",), "alert": (5, 5, "bogus"), "watch": (None,),
        "unwatch": (), "mark_preempting": (), "log_model": ("p",), "use_model": ("m:latest",), "link_model": ("p", "r"),
        "link_artifact": (None, "x"), "log_code": (), "pin_config_keys": (["a"],), "write_logs": ("x",),
        "display": (), "restore": ("f",), "finish": (3,),
    }  # fmt: skip
    out = {name: exc(getattr(run, name), *given)["raised"] for name, given in calls.items()}
    out["same"] = [first is run, plain(wb.run)]
    out["after"] = [exc(run.log, {"k": 1}), plain(dict(run.summary)), run.step, exc(run.log, "x")["raised"]]
    out["config"] = [exc(run.config.update, {"a": 2})["raised"], exc(run.config.update, {"b": 2})]
    return {
        "r": out,
        "files": sorted(name for name in os.listdir() if not name.startswith((".", "_", "wandb"))),
    }


@scenario("alert")
def alerts_of_all_kinds(wb):
    run = init(wb)
    level, span = wb.AlertLevel, datetime.timedelta(minutes=2)
    given = (
        ("t", "x"), ("t", "x", "WARN"), ("t", "x", level.ERROR), ("t", "x", "warn"), ("t", "x", 1), ("t", "x", None, 30),
        ("t", "x", None, span), ("t", "x", None, "5"), ("t", "x", None, -5), ("t", "x", None, 0.25), (5, "x"), ("t", 5),
        (None, "x"), ("t", None), ("", ""), ("t", "y" * 3000), (),
    )  # fmt: skip
    out = [exc(run.alert, *one) for one in given]
    run.log({"a": 1}, commit=False)
    run.mark_preempting()
    return done(run, r=out, module=exc(wb.alert, "m", "n"))


@scenario("files")
def files_saved(wb):
    run = init(wb)
    os.makedirs("d/e")
    for name in ("a.txt", "b.log", "d/c.txt", "d/e/f.txt", "sp ace.txt", "[x].txt"):
        pathlib.Path(name).write_text(name)
    here = os.getcwd()

    def saved(*given, **named):
        found = exc(run.save, *given, **named)
        if isinstance(found.get("ret"), list):
            found["ret"] = [os.path.relpath(one, run.dir) for one in found["ret"]]
        return found

    out = [
        saved("[x].txt", glob=False, policy="now"), saved("d/e/f.txt"), saved("none*"), saved("d/*.txt", policy="now"),
        saved(here + "/d/e/f.txt"), saved(here + "/d/e/f.txt", base_path=here + "/d", policy="end"),
        saved("a.txt", base_path="d"), saved("../x"), saved("a.txt", policy="bogus"), saved("*.txt"), saved(5),
        saved("s3://b/x"), saved(b"b.log", policy="end"), saved(pathlib.Path("sp ace.txt"), None, "now"), saved(""),
        saved("**/*.txt", policy="end"),
    ]  # fmt: skip
    return done(run, r=out)


@scenario("run")
def offline_refusals(wb):
    run = init(wb)
    pathlib.Path("f.txt").write_text("x")
    draft = wb.Artifact("drafted", "t")
    out = [
        exc(run.restore, "f.txt"), exc(run.restore, "f.txt", "e/p/r"), exc(wb.restore, "f.txt"),
        exc(run.use_artifact, "a:latest"), exc(run.use_artifact, 5), exc(run.use_model, "m:latest"),
        exc(run.link_model, "f.txt", "a/b"), exc(run.link_model, "f.txt", "registered"),
        exc(run.link_artifact, draft, "p/q"), exc(run.upsert_artifact, draft), exc(run.log_model, "nowhere"),
    ]  # fmt: skip
    run.finish()
    return {"r": out, "after": [exc(run.restore, "f.txt"), exc(run.link_model, "f.txt", "registered")]}


@scenario("run")
def before_there_is_a_run(wb):
    calls = {
        "log": ({"a": 1},), "define_metric": ("x",), "save": ("*",), "alert": ("t", "x"), "mark_preempting": (),
        "log_artifact": ("f",), "use_artifact": ("a",), "log_model": ("p",), "use_model": ("m",), "watch": (None,),
        "link_model": ("p", "r"), "unwatch": (), "pin_config_keys": (["a"],), "finish": (3,), "teardown": (),
    }  # fmt: skip
    out = {name: exc(getattr(wb, name), *given) for name, given in calls.items()}
    for name in ("config", "summary"):
        held = getattr(wb, name)
        out[name] = [
            exc(lambda held=held: held["a"]), exc(lambda held=held: held.a), exc(lambda held=held: held.update({})),
            exc(setattr, held, "a", 1), exc(lambda held=held: "a" in held), bool(held),
        ]  # fmt: skip
    return out
