"""Scenarios of tables and plots, in the form of `scenarios.py`; table_oracle.json is what wandb 0.31.0 did with them.

They need numpy, pandas and scikit-learn (the client's curves ask it); what a table's file holds is in `obs`.
"""

from __future__ import annotations

import datetime
import decimal
import hashlib
import json
import os
import re

from registry import Registry
from scenarios import done, exc, init

scenario = SCENARIOS = Registry()
_ADDRESS = re.compile(r"0x[0-9a-f]+")
_TABLE = re.compile(r"<\S+Table object at 0x[0-9a-f]+>")


def np():
    import numpy

    return numpy


def pd():
    import pandas

    return pandas


def why(fn, *a, **k):
    """Return the class and the whole text of what is raised: texts are compared here, too."""
    try:
        return ["ok", plainly(fn(*a, **k))]
    except AssertionError:
        return ["AssertionError"]  # most of the client's say nothing
    except Exception as error:
        return [type(error).__name__, _ADDRESS.sub("0x", str(error))]


def plainly(value):
    if isinstance(value, (list, tuple)):
        return [plainly(item) for item in value]
    if isinstance(value, dict):
        return {str(key): plainly(item) for key, item in value.items()}
    return value if isinstance(value, (int, str, float, type(None))) else repr(value)


def said(table):
    """Return a table's shape and cells, and the types of its columns."""
    return [list(table.columns), plainly(table.data), types(table)]


def types(table):
    """Return the type of each column as it is printed, in the client and here."""
    row = table._column_types
    columns = row.params["type_map"] if isinstance(row.params, dict) else row.types
    return {str(key): _TABLE.sub("<Table>", repr(kind)) for key, kind in columns.items()}


def stored(run, *keys, root="."):
    """Return the text of the files that the summary names under the keys: found by size and digest."""
    found = {}
    for key in keys:
        digest = run.summary[key]["sha256"]
        found[key] = next(
            (text for text in _texts(root) if hashlib.sha256(text).hexdigest() == digest), b"?"
        ).decode()
    return found


def _texts(root):
    for folder, _, names in os.walk(root):
        for name in names:
            path = os.path.join(folder, name)
            if os.path.isfile(path) and os.path.getsize(path) < 1 << 22:
                with open(path, "rb") as file:
                    yield file.read()


@scenario("tables")
def table_making(wb):
    T = wb.Table
    frame = pd().DataFrame({"a": [1, 2], "b": ["x", "y"]})
    return {
        "default": said(T()),
        "columns": said(T(columns=["a", "b"])),
        "data": said(T(columns=["a", "b"], data=[[1, "x"], (2, None)])),
        "rows": said(T(columns=["a"], rows=[[1]])),
        "both": said(T(columns=["a"], rows=[[1]], data=[[2]])),
        "frame": said(T(dataframe=frame)),
        "frame_as_data": said(T(columns=["z"], data=frame)),
        "array": said(T(columns=["a", "b"], data=np().eye(2).tolist())),
        "none": said(T(columns=None, data=[[1, 2, 3]])),
        "ints": said(T(columns=[0, 1], data=[[1, 2]])),
        "empty": said(T(columns=[], data=[[]])),
        "named": [T.MAX_ROWS, T.MAX_ARTIFACT_ROWS, T(columns=["a"]).log_mode],
        "errors": [
            why(T, columns="ab"),
            why(T, columns=("a",)),
            why(T, columns=["a", 1.5]),
            why(T, columns=["a", "b"], data=[[1]]),
            why(T, data=[[1, 2]]),
            why(T, columns=["a"], data=((1,),)),
            why(T, columns=["a"], data={"a": [1]}),
            why(T, columns=["a"], data="x"),
            why(T, columns=["a"], data=np().zeros((2, 2))),
            why(T, dataframe=[[1]]),
            why(T, columns=["a"], log_mode="X"),
            why(T, columns=["a"], log_mode=None),
            why(T(columns=["a"]).add_data),
            why(T(columns=["a"]).add_data, 1, 2),
            why(T(columns=["a"]).to_json, None),
            why(hash, T(columns=["a"])),
            why(len, T(columns=["a"])),
            why(T, dataframe=pd().DataFrame([[1]], columns=[1.5])),
            why(T, columns=["a"], dtype=np().ndarray)[0],
        ],
        "equal": [
            T(columns=["a"], data=[[1]]) == T(columns=["a"], data=[[1]]),
            T(columns=["a"], data=[[1]]) == T(columns=["a"], data=[[2]]),
            T(columns=["a"]) == T(columns=["b"]),
            T(columns=["a"]) == 3,
        ],
    }


_CELLS = {
    "int, text": lambda n: (1, "x"),
    "int, float": lambda n: (1, 2.5),
    "int, none": lambda n: (1, None),
    "none, int, text": lambda n: (None, 1, "x"),
    "int, nan": lambda n: (1, float("nan")),
    "text, nan": lambda n: ("s", float("nan")),
    "nan, text": lambda n: (float("nan"), "s"),
    "text, numpy nan": lambda n: ("s", n.float64("nan")),
    "numpy numbers": lambda n: (n.int64(1), n.float32(2), n.uint8(3), n.float16(1)),
    "bools": lambda n: (True, n.bool_(False)),
    "bool, int": lambda n: (True, 1),
    "int, bool": lambda n: (1, True),
    "text, numpy text": lambda n: ("a", n.str_("b")),
    "lists": lambda n: ([1], [1, 2]),
    "list, list of text": lambda n: ([1], ["a"]),
    "empty list, list": lambda n: ([], [1]),
    "list, empty list": lambda n: ([1], []),
    "list with none": lambda n: ([1, None], [None]),
    "list, list of none": lambda n: ([1], [None]),
    "mixed list twice": lambda n: ([1, "a"], [1, "a"]),
    "mixed list after list": lambda n: ([1], [2, "x", None]),
    "lists in lists": lambda n: ([[1]], [["a"]]),
    "tuple, set": lambda n: ((1,), {1}),
    "list, array": lambda n: ([1, 2], n.zeros(2)),
    "list, flat array": lambda n: ([1], n.zeros((2, 2))),
    "arrays": lambda n: (n.zeros(3), n.zeros(3)),
    "arrays of two shapes": lambda n: (n.zeros(3), n.zeros(4)),
    "array, list": lambda n: (n.zeros(2), [1]),
    "dicts": lambda n: ({"a": 1}, {"a": 2}),
    "dict, other key": lambda n: ({"a": 1}, {"b": 2, "c": 3}),
    "dict, no key": lambda n: ({"a": 1}, {}),
    "dict, none in it": lambda n: ({"a": 1}, {"a": None}),
    "dict of none": lambda n: ({"a": None}, {"a": 1}),
    "dict of lists": lambda n: ({"a": [1]}, {"a": ["x"]}),
    "list of dicts": lambda n: ([{"a": 1}], [{"a": "x"}]),
    "dates": lambda n: (datetime.datetime(2020, 1, 1), datetime.date(2020, 1, 1), n.datetime64("2020-01-01")),
    "bytes, int": lambda n: (b"x", 1),
    "int, bytes": lambda n: (1, b"x"),
    "decimal": lambda n: (1, decimal.Decimal(1)),
    "complex": lambda n: (1, 1j),
    "int keys": lambda n: ({1: 2}, {1: 3}),
}


@scenario("tables")
def table_types(wb):
    n = np()

    def filled(values, **kw):
        table = wb.Table(columns=["a"], **kw)
        for value in values:
            table.add_data(value)
        return said(table)

    def all_types(*kinds):
        return [why(lambda: types(wb.Table(columns=["a"], dtype=kind))) for kind in kinds]

    return {
        **{name: why(filled, cells(n)) for name, cells in _CELLS.items()},
        "mixed": why(filled, (1, "x", None), allow_mixed_types=True),
        "mixed, not none": why(filled, (1, None), allow_mixed_types=True, optional=False),
        "not optional": why(filled, (1, None), optional=False),
        "not optional, none first": why(filled, (None,), optional=False),
        "not optional, list": why(filled, ([1], ["x"]), optional=False),
        "optional for some": why(
            wb.Table, columns=["a", "b"], data=[["x", None], [None, "y"]], optional=[False, True]
        ),
        "dtype": why(filled, ("x",), dtype=int),
        "dtype of a list": why(filled, ([1], ["x"]), dtype=[[int]]),
        "dtype of a dict": why(filled, ({"a": 1}, {"a": 2, "b": 3}), dtype={"a": int}),
        "dtype for each": why(wb.Table, columns=["a", "b"], data=[[1, "x"], [2, 3]], dtype=[int, str]),
        "dtype for some": why(wb.Table, columns=["a", "b"], data=[[1, "x"]], dtype=[int]),
        "dtypes": all_types(
            str, int, float, bool, list, dict, set, None, "int", datetime.datetime, {"a": int}
        ),
        "rows": why(wb.Table, columns=["a", "b", "c"], data=[[1, "x", None], ["q", 2, [1]]]),
        "int columns": why(wb.Table, columns=[0, 1], data=[[1, 2], ["x", 1]]),
        "frame": why(lambda: said(wb.Table(dataframe=pd().DataFrame({"a": [1, "x"]})))),
    }


@scenario("tables")
def table_methods(wb):
    n = np()
    x = wb.Table(columns=["a", "b"], data=[[1, "x"], [2, "y"]])
    y = wb.Table(columns=["a"], data=[[1], [2]])
    refused = wb.Table(columns=["a"], data=[["x"], ["y"]])
    keyed = wb.Table(columns=["id", "v"], data=[["k1", 1], ["k2", 2]])
    linked = wb.Table(columns=["ref"], data=[["k1"]])
    return {
        "rows": [[int(index), list(row), type(index).__mro__[1].__name__] for index, row in x.iterrows()],
        "row_of_index": [index.get_row() for index in x.get_index()],
        "index": [why(x.index_ref, 1), why(x.index_ref, 5)],
        "column": [x.get_column("a"), plainly(x.get_column("a", convert_to="numpy").tolist())],
        "column_errors": [why(x.get_column, "zz"), why(x.get_column, "a", "list")],
        "numpy": [
            str(wb.Table(columns=["a"], data=data).get_column("a", "numpy").dtype)
            for data in (
                [["x"], [None]],
                [[1.5]],
                [[[1, 2]], [[3, 4]]],
                [[n.zeros(2)], [n.ones(2)]],
                [[{"x": 1}]],
                [],
            )
        ],
        "cast": [
            why(lambda: repr(x.cast("a", float))),
            why(lambda: repr(x.cast("b", str, optional=True))),
            why(x.cast, "a", str),
            why(x.cast, "zz", str),
            why(wb.Table(columns=["a"], data=[[None]]).cast, "a", int),
        ],
        "add_column": [
            why(x.add_column, "d", [1.5, None], optional=True),
            why(x.add_column, "e", [1.5, None]),
            why(x.add_column, "e", [1]),
            why(x.add_column, "a", [1, 2]),
            why(x.add_column, 3, [1, 2]),
            why(x.add_column, "e", "xy"),
            why(x.add_column, "e", (1, 2)),
            why(x.add_column, "e", [1, "x"]),
            why(x.add_column, "n", n.array([7, 8])),
            said(x),
        ],
        "computed": [
            why(y.add_computed_columns, lambda index, row: {"square": row["a"] ** 2, "index": index}),
            why(y.add_computed_columns, lambda index, row: {}),
            why(y.add_computed_columns, lambda index, row: 3),
            why(y.add_computed_columns, lambda index, row: {"a": 9}),
            why(wb.Table(columns=["a"]).add_computed_columns, lambda index, row: {"z": 1}),
            said(y),
        ],
        "frame": plainly(x.get_dataframe().to_dict("list")),
        "keys": [
            why(keyed.set_pk, "id"),
            [type(key).__mro__[1].__name__ for key in keyed.get_column("id")],
            why(linked.set_fk, "ref", keyed, "id"),
            linked.get_column("ref"),
            why(keyed.set_pk, "zz"),
            why(wb.Table(columns=["v"], data=[[1]]).set_pk, "v"),
            types(keyed),
        ],
        "add_row": [refused.add_row("z"), said(refused)],
    }


@scenario("tables")
def table_files(wb):
    n = np()
    run = init(wb)
    values = [
        float("nan"),
        float("inf"),
        -float("inf"),
        n.float32(1.1),
        n.float64(1.5),
        n.int64(3),
        n.bool_(True),
        n.array([1, 2]),
        n.array([float("nan"), 1]),
        n.zeros(40),
        n.array(["a"]),
        {"k": n.int64(2), "n": float("nan")},
        [n.float32(2), float("inf")],
        {1: 2},
        {"a": {"b": (1,)}},
        [],
        {},
        datetime.datetime(2020, 1, 2, 3, 4, 5, 678901),
        datetime.datetime(2020, 1, 2, 3, 4, 5, tzinfo=datetime.UTC),
        datetime.date(2020, 1, 2),
        n.datetime64("2020-01-02"),
        n.array(["2020-01-01"], dtype="datetime64[D]"),
        decimal.Decimal("1.5"),
        (1, 2),
        {1},
        2**70,
        'é\u2028"\\\n',
        "",
        True,
        n.str_("s"),
        -0.0,
        2.0,
        1e300,
        1e16,
        5e-324,
        123456789.123456789,
        pd().Timestamp("2020-01-01 03:04:05.678"),
        b"text",
        len,
        None,
    ]
    for value in values:
        run.log({"cell": wb.Table(columns=["a"], data=[[value]])})
    refused = [
        why(run.log, {"cell": wb.Table(columns=["a"], data=[[value]])})
        for value in (object(), b"\xff", range(3))
    ]
    run.log({"two": wb.Table(columns=["a", "b"], data=[[1, "x"], [2, None]])})
    run.log({"empty": wb.Table(columns=["a"]), "none": wb.Table(columns=[])})
    run.log({"n": {"t": wb.Table(columns=["a"], data=[[1]])}, "x/y z": wb.Table(columns=["a"], data=[[2]])})
    run.log({"mixed": wb.Table(columns=["a"], data=[[1], ["x"], [[1]]], allow_mixed_types=True), "loss": 1})
    run.log({"ints": wb.Table(columns=[0, 1], data=[[1, 2]])})
    return done(run, refused=refused, stored=stored(run, "two", "empty", "none", "x/y z", "mixed", "ints"))


@scenario("tables")
def table_frames(wb):
    p = pd()
    run = init(wb)
    frame = p.DataFrame(
        {
            "i": [1, 2],
            "f": [1.5, None],
            "c": p.Categorical(["u", "v"]),
            "b": [True, False],
            "o": [[1], [2]],
            "d": p.to_datetime(["2020-01-01 00:00:01", "2021-02-03 04:05:06"]).astype("datetime64[us]"),
        },
        index=["r1", "r2"],
    )
    for key in frame.columns:
        run.log({key: frame[[key]]})
    run.log({"all": frame, "loss": 1})
    run.log({"ints": p.DataFrame([[1, 2]]), "empty": p.DataFrame()})
    refused = [
        why(run.log, {"mixed": p.DataFrame({"a": [1, "x"]})}),
        why(run.log, {"multi": p.DataFrame([[1]], columns=p.MultiIndex.from_tuples([("a", "b")]))}),
        why(run.log, {"floats": p.DataFrame([[1]], columns=[1.5])}),
        why(run.log, {"series": p.Series([1, 2])})[0],
    ]
    return done(run, refused=refused, stored=stored(run, *frame.columns, "all", "ints", "empty"))


@scenario("tables")
def table_modes(wb):
    run = init(wb)
    seen = []

    def log(key, table):
        run.log({key: table})
        return [run.summary[key]["nrows"], run.summary[key]["path"], stored(run, key)[key]]

    once = wb.Table(columns=["a"], data=[[1]])
    seen.append(log("once", once))
    once.add_data(2)
    seen.append(log("once", once))
    again = wb.Table(columns=["a"], data=[[1]], log_mode="MUTABLE")
    seen.append(log("again", again))
    seen.append(log("again", again))
    again.add_data(2)
    seen.append(log("again", again))
    again.add_column("b", ["x", "y"])
    seen.append(log("again", again))
    return done(run, seen=seen)


@scenario("tables")
def table_increments(wb):
    run = init(wb)
    table = wb.Table(columns=["a"], data=[[1]], log_mode="INCREMENTAL")
    run.log({"t": table})
    first = dict(run.summary["t"])
    table.add_data(2)
    table.add_data(3)
    run.log({"t": table})
    second, text = dict(run.summary["t"]), stored(run, "t")
    refused = [
        why(table.add_column, "q", [1, 2, 3]),
        why(table.add_computed_columns, lambda index, row: {"q": 1}),
    ]
    keys = sorted(first), sorted(second), second["increment_num"], len(second["previous_increments_paths"])
    run.finish()
    return {
        "keys": keys,
        "text": text,
        "refused": refused,
        "type": second["_type"],
        "rows": second["nrows"],
        "data": table.data,
    }


@scenario("tables")
def table_limits(wb):
    run = init(wb)
    run.log({"big": wb.Table(columns=["a"], data=[[i] for i in range(10_001)])})
    rows = len(json.loads(stored(run, "big")["big"])["data"])
    return done(run, rows=rows)


@scenario("tables")
def table_elsewhere(wb):
    run = init(wb)
    run.summary["s"] = wb.Table(columns=["a"], data=[[1]])
    run.log({"tables": [wb.Table(columns=["a"], data=[[1]]), wb.Table(columns=["b"], data=[[2]])]})
    return done(
        run,
        config=exc(run.config.update, {"t": wb.Table(columns=["a"])}),
        joined=[
            why(wb.JoinedTable, 1, wb.Table(columns=["id"]), "id"),
            why(wb.JoinedTable, wb.Table(columns=["id"]), wb.Table(columns=["id"]), 3),
        ],
    )


@scenario("tables")
def table_joined(wb):
    run = init(wb)
    one = wb.Table(columns=["id", "v"], data=[["a", 1]])
    two = wb.Table(columns=["id", "w"], data=[["a", 2]])
    run.log({"joined": wb.JoinedTable(one, two, "id")})
    summary = dict(run.summary["joined"])
    return done(run, keys=sorted(summary), type=summary["_type"])


def digits():
    n = np()
    state = n.random.RandomState(3)
    truth = state.randint(0, 3, 200)
    scores = state.rand(200, 3)
    scores[n.arange(200), truth] += 0.4
    return truth, scores / scores.sum(1, keepdims=True)


@scenario("plots")
def plot_simple(wb):
    run = init(wb)
    table = wb.Table(columns=["x", "y", "name"], data=[[0, 1.5, "a"], [1, 2.5, "b"]])
    run.log({"line": wb.plot.line(table, "x", "y", stroke="name", title="Line")})
    run.log({"scatter": wb.plot.scatter(table, "x", "y")})
    run.log({"bar": wb.plot.bar(table, label="name", value="y", title="Bars")})
    run.log({"histogram": wb.plot.histogram(table, value="y")})
    run.log({"own": wb.plot_table("me/mine/v1", table, {"x": "x"}, {"title": "T"}), "loss": 1})
    run.log({"split": wb.plot.line(table, "x", "y", split_table=True)})
    run.log({"a/b": wb.plot.line(table, "x", "y"), "n": {"c": wb.plot.scatter(table, "x", "y")}})
    return done(run)


@scenario("plots")
def plot_line_series(wb):
    run = init(wb)
    run.log(
        {
            "shared": wb.plot.line_series(
                [0, 1, 2], [[1, 2, 3], [4, 5, 6]], keys=["a", "b"], title="T", xname="s"
            )
        }
    )
    run.log({"own": wb.plot.line_series([[0, 1], [5, 6, 7]], [[1, 2], [4, 5, 6]])})
    refused = [
        why(wb.plot.line_series, 3, [[1]])[0],
        why(wb.plot.line_series, [1], 3)[0],
        why(wb.plot.line_series, [[1], [2]], [[1]]),
        why(wb.plot.line_series, [1], [[1]], keys=["a", "b"]),
        why(wb.plot.line_series, [1], [[1, 2]])[0],
        why(wb.plot.line_series, [1], [2])[0],
        why(wb.plot.line_series, [[1], 2], [[1], [2]])[0],
    ]
    return done(run, refused=refused, stored=stored(run, "shared_table", "own_table"))


@scenario("plots")
def plot_curves(wb):
    run = init(wb)
    truth, scores = digits()
    names = ["zero", "one", "two"]
    two = (truth == 1).astype(int)
    run.log({"pr": wb.plot.pr_curve(truth, scores, labels=names)})
    run.log({"pr_some": wb.plot.pr_curve(truth, scores, classes_to_plot=[0, 2], interp_size=5, title="Some")})
    run.log(
        {
            "pr_two": wb.plot.pr_curve(
                two, np().column_stack([1 - scores[:, 1], scores[:, 1]]), labels=["no", "yes"]
            )
        }
    )
    run.log({"roc": wb.plot.roc_curve(truth, scores, labels=names)})
    run.log({"roc_some": wb.plot.roc_curve(truth, scores, classes_to_plot=[1])})
    texts = stored(run, "pr_table", "pr_some_table", "pr_two_table", "roc_table", "roc_some_table")
    refused = [
        why(wb.plot.pr_curve, None, scores)[0],
        why(wb.plot.pr_curve, truth, None)[0],
        why(wb.plot.pr_curve, [0, 1], scores),
        why(wb.plot.pr_curve, truth, scores[:, 0])[0],
        why(wb.plot.pr_curve, truth, scores, classes_to_plot=[7])[0],
        why(wb.plot.roc_curve, None, scores)[0],
        why(wb.plot.roc_curve, truth, scores, classes_to_plot=[7])[0],
    ]
    return done(run, refused=refused, stored={key: json.loads(text) for key, text in texts.items()})


@scenario("plots")
def plot_confusion(wb):
    run = init(wb)
    truth, scores = digits()
    guesses = scores.argmax(1)
    run.log(
        {"scores": wb.plot.confusion_matrix(probs=scores, y_true=truth, class_names=["zero", "one", "two"])}
    )
    run.log(
        {"guesses": wb.plot.confusion_matrix(y_true=truth.tolist(), preds=guesses.tolist(), title="Mine")}
    )
    run.log({"texts": wb.plot.confusion_matrix(y_true=["b", "a", "b"], preds=["a", "a", "b"])})
    run.log({"gap": wb.plot.confusion_matrix(y_true=[0, 3], preds=[3, 3])})
    refused = [
        why(wb.plot.confusion_matrix, y_true=truth)[0],
        why(wb.plot.confusion_matrix, probs=scores)[0],
        why(wb.plot.confusion_matrix, probs=scores, preds=guesses, y_true=truth),
        why(wb.plot.confusion_matrix, preds=[0], y_true=[0, 1]),
        why(wb.plot.confusion_matrix, preds=[0, 1], y_true=[0, 1], class_names=["a"]),
        why(wb.plot.confusion_matrix, preds=["y", "y"], y_true=["x", "y"], class_names=["x", "y"]),
        why(wb.plot.confusion_matrix, probs=[0.5, 0.5], y_true=[0, 1])[0],
    ]
    keys = "scores_table", "guesses_table", "texts_table", "gap_table"
    return done(run, refused=refused, stored=stored(run, *keys))


@scenario("plots")
def plot_errors(wb):
    table = wb.Table(columns=["x"], data=[[1]])
    return {
        "r": [
            why(wb.plot_table, "a/b", [[1]], {"x": "x"}),
            why(wb.plot.line, [[1]], "x", "x")[0],
            why(wb.plot.line, table, "x", "missing")[0],
            why(wb.plot_table, "a/b", table, {"x": "missing"})[0],
        ]
    }
