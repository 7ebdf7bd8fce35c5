"""Html, Molecule, Object3D, Plotly, Graph: text and files."""

from __future__ import annotations

import base64
import io
import json
import sys
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import plotly.graph_objects as go
import pytest

import runfold
from runfold.media.figures import media_of

mpl.use("Agg")
HEAD = '<base target="_blank"><link rel="stylesheet" type="text/css" href="https://app.wandb.ai/normalize.css" />'


def text(value: Any) -> str:
    value.hold()
    return str(value.content.encoded().path.read_text())


@pytest.mark.parametrize(
    ("page", "expected"),
    [
        ("<p>hi</p>", f"{HEAD}<p>hi</p>"),
        ("<html><body/></html>", f"<html><head>{HEAD}</head><body/></html>"),
        ("<html><head><title/></head></html>", f"<html><head>{HEAD}<title/></head></html>"),
        ("a\0b.html", f"{HEAD}a\0b.html"),
        ("x" * 5000 + ".html", f"{HEAD}{'x' * 5000}.html"),
    ],
)
def test_a_page_gets_its_style_sheet(page: str, expected: str) -> None:
    assert text(runfold.Html(page)) == expected
    assert text(runfold.Html(page, inject=False)) == page


def test_a_page_may_be_a_file() -> None:
    Path("page.html").write_text("<b>é</b>", encoding="utf-8")
    assert text(runfold.Html("page.html", inject=False)) == "<b>é</b>"
    assert text(runfold.Html(Path("page.html"))) == f"{HEAD}<b>é</b>"
    assert text(runfold.Html("page.html", data_is_not_path=True, inject=False)) == "page.html"
    with Path("page.html").open("rb") as file:
        assert text(runfold.Html(file, inject=False)) == "<b>é</b>"
    with pytest.raises(ValueError):
        runfold.Html(3)  # type: ignore[arg-type]


def test_a_molecule_is_a_file_or_an_open_one() -> None:
    Path("m.pdb").write_text("ATOM")
    with Path("m.pdb").open() as file:
        for given in ("m.pdb", Path("m.pdb"), file):
            assert text(runfold.Molecule(given)) == "ATOM"
    molecule = runfold.Molecule(io.BytesIO(b"\x01\xff"), file_type="mmtf")
    assert molecule.content.encoded().path.read_bytes() == b"\x01\xff"


def test_rdkit_is_asked_for_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "rdkit.Chem", None)
    for make in (runfold.Molecule.from_smiles, runfold.Molecule.from_rdkit):
        with pytest.raises(runfold.Error, match="pip install rdkit"):
            make("CCO")


def test_a_smiles_string_becomes_a_structure() -> None:
    pytest.importorskip("rdkit")
    assert "HETATM" in text(runfold.Molecule.from_smiles("CCO"))
    with pytest.raises(ValueError, match="SMILES"):
        runfold.Molecule.from_smiles("no molecule")


def test_models_of_every_type_are_files() -> None:
    for kind in ("obj", "gltf", "glb", "babylon", "stl", "pts.json"):
        path = Path(f"o.{kind}")
        path.write_bytes(b"\x00model")
        with path.open("rb") as file:
            for given in (str(path), path, file):
                found = runfold.Object3D(given)
                found.hold()
                assert found.content.suffix == f".{kind}"
                assert found.content.encoded().path.read_bytes() == b"\x00model"
    assert text(runfold.Object3D.from_file(io.StringIO("v 0 0 0"), "obj")) == "v 0 0 0"


@pytest.mark.parametrize("columns", [3, 4, 6])
def test_points_are_lists_of_numbers(columns: int) -> None:
    points = np.random.default_rng(columns).normal(size=(9, columns))
    assert np.array_equal(json.loads(text(runfold.Object3D.from_numpy(points))), points)


def test_a_scene_holds_points_boxes_and_arrows() -> None:
    box = runfold.box3d(
        center=(1, 2, 3), size=(2, 4, 6), orientation=(1, 0, 0, 0), color=(1, 0, 0), label="car", score=0.5
    )
    arrow = {"start": [0, 0, 0], "end": np.array([1, 1, 1])}
    found = json.loads(text(runfold.Object3D.from_point_cloud(np.ones((2, 3)), [box], [arrow])))
    assert found["type"] == "lidar/beta"
    assert found["points"] == [[1, 1, 1], [1, 1, 1]]
    assert found["vectors"] == [{"start": [0, 0, 0], "end": [1, 1, 1]}]
    assert found["boxes"][0]["label"] == "car"
    assert found["boxes"][0]["corners"] == [[x, y, z] for x in (0, 2) for y in (0, 4) for z in (0, 6)]


def test_a_box_turns_with_its_quaternion() -> None:
    quarter = (np.sqrt(0.5), 0, 0, np.sqrt(0.5))  # by 90 degrees around z
    box = runfold.box3d(center=(0, 0, 0), size=(2, 4, 6), orientation=quarter, color=(0, 0, 0))
    extent = np.ptp(np.array(box["corners"]), axis=0)
    assert np.allclose(extent, (4, 2, 6))


@pytest.mark.parametrize(
    "given", [np.ones((2, 5)), np.ones(3), {"type": "other"}, {}, 3, "o.xyz", io.StringIO("x")]
)
def test_what_is_no_object_is_refused(given: Any) -> None:
    with pytest.raises(ValueError):
        runfold.Object3D(given)


def test_a_plotly_figure_keeps_its_data() -> None:
    figure = go.Figure(data=go.Scatter(x=[1, 2], y=np.array([3.5, 4.5])))
    value = media_of(figure)
    figure.data[0].x = [9, 9]
    again = go.Figure(json.loads(text(value)))
    assert list(again.data[0].x) == [1, 2]
    assert np.frombuffer(base64.b64decode(again.data[0].y["bdata"])).tolist() == [3.5, 4.5]


@pytest.mark.filterwarnings("ignore")
def test_matplotlib_becomes_plotly_or_an_image() -> None:
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots()
    axes.plot([1, 2, 3], [1, 4, 9])
    # plotly closes a figure that it converts: pyplot's current one comes first
    for given in (plt, figure, axes):
        value = media_of(given)
        assert isinstance(value, runfold.Plotly)
        assert list(go.Figure(json.loads(text(value))).data[0].y) == [1, 4, 9]
    axes.imshow(np.zeros((2, 2)))
    assert isinstance(media_of(figure), runfold.Image)
    with pytest.raises(ValueError, match="images"):
        runfold.Plotly(figure)
    plt.close(figure)


def test_without_plotly_a_matplotlib_figure_is_an_image(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from matplotlib import pyplot as plt

    monkeypatch.setitem(sys.modules, "plotly.tools", None)
    figure = plt.figure()
    assert isinstance(media_of(figure), runfold.Image)
    assert "as an image" in capsys.readouterr().err
    plt.close(figure)


def test_a_graph_is_stored_as_it_is_when_it_is_logged() -> None:
    graph = runfold.Graph()
    a = graph.add_node(id="a", name="A", class_name="Linear", size=[2, 3], parameters=[("w", [2, 3])])
    b = graph.add_node(runfold.data_types.Node("b", node=a))
    graph.add_edge(a, b)
    a.output_shape = [4]
    assert (graph["a"].size, b.class_name, a.num_parameters) == ((2, 3), "Linear", None)
    assert json.loads(text(graph)) == {
        "format": "keras",
        "nodes": [
            {"name": "A", "id": "a", "class_name": "Linear", "size": [2, 3], "parameters": [["w", [2, 3]]],
             "output_shape": [4]},
            {"name": "A", "class_name": "Linear", "size": [2, 3], "parameters": [["w", [2, 3]]], "id": "b"},
        ],
        "edges": [["a", "b"]],
    }  # fmt: skip
    with pytest.raises(TypeError, match="colour"):
        graph.add_node(colour="red")
