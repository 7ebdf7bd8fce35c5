"""Scenarios of a run in several processes, in the form of `scenarios.py`; family_oracle.json is what wandb 0.31.0
did with them, offline and without a key. A fork's child says something before it asks: the client needs that.
"""

from __future__ import annotations

import json
import multiprocessing
import os

from registry import Registry
from scenarios import done, init, snap

scenario = SCENARIOS = Registry()


def view(run):
    return [snap(run), run.step]


def forked(action):
    """Run `action` in a fork that leaves at once, and return what it returned."""
    source, sink = os.pipe()
    child = os.fork()
    if not child:
        try:
            os.write(sink, json.dumps(action()).encode())
        finally:
            os._exit(0)
    os.close(sink)
    with open(source) as told:
        seen = told.read()
    os.waitpid(child, 0)
    return json.loads(seen)


@scenario("family")
def family_by_fork(wb):
    run = init(wb)
    out = []

    def child():
        run.log({"b": 2})
        run.log({"a": 5, "n": {"x": 1, "y": 2}})
        return view(run)

    def grandchild():
        run.log({"g": 3})
        return view(run)

    def nested():
        run.log({"n": {"x": 7}})
        seen = [forked(grandchild), view(run)]
        run.log({"b": 4, "t": "text", "l": [1, 2]})
        return [*seen, view(run)]

    run.log({"a": 1})
    for one in (child, nested):
        out += [forked(one), view(run)]
        run.log({"a": 9})
        out.append(view(run))
    return done(run, seen=out)


@scenario("family")
def family_definitions(wb):
    run = init(wb)
    out = []

    def child():
        run.log({"lo": 3, "hi": 9, "m": 2, "k1": 3})
        run.define_metric("hi", summary="max")
        run.log({"hi": 4, "lo": 8, "k1": 1, "m": 1, "no": 1})
        return view(run)

    run.define_metric("lo", summary="min")
    run.define_metric("m", summary="mean,first,last")
    run.define_metric("k*", summary="max")
    run.define_metric("no", summary="none")
    run.log({"lo": 5, "hi": 1, "m": 4})
    out += [forked(child), view(run)]
    run.log({"lo": 4, "hi": 2, "m": 9, "k1": 2})
    out.append(view(run))
    return done(run, seen=out)


@scenario("family")
def family_open_rows_and_steps(wb):
    run = init(wb)
    out = []

    def child():
        run.log({"b": 2})
        seen = [view(run)]
        run.log({"q": 4}, commit=False)
        return [*seen, view(run)]

    def further():
        run.log({"b": 1}, step=8)
        seen = [view(run)]
        run.log({"b": 3})
        return [*seen, view(run)]

    run.log({"a": 1})
    run.log({"p": 1}, commit=False)
    out += [forked(child), view(run)]
    run.log({"c": 3})
    out += [view(run), forked(further), view(run)]
    run.log({"a": 3}, step=20)
    out.append(view(run))
    return done(run, seen=out)


def _spawned(run, answers):
    run.log({"b": 2, "a": 7})
    run.summary["hand"] = 1
    del run.summary["deleted"]
    run.summary.update({"w": {"k": 1}})
    answers.put(view(run))


@scenario("family")
def family_by_pickle(wb):
    run = init(wb)
    run.log({"a": 1})
    run.summary["hand"] = 0
    run.summary["deleted"] = 3
    spawning = multiprocessing.get_context("spawn")
    answers = spawning.Queue()
    process = spawning.Process(target=_spawned, args=(run, answers))
    process.start()
    out = [answers.get(timeout=60)]
    process.join()
    out.append([process.exitcode, view(run)])
    run.log({"a": 9})
    out.append(view(run))
    return done(run, seen=out)


@scenario("family")
def family_of_a_pool(wb):
    run = init(wb)
    run.log({"a": 1})
    with multiprocessing.get_context("fork").Pool(1) as pool:
        pool.map(run.log, [{"i": number, "m": {"x": number}} for number in range(6)])
    return done(run, seen=view(run))
