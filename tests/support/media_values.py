"""Media values that a trainer logs and a reader compares with what it downloads."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

PIXELS = np.random.default_rng(7).integers(0, 256, (9, 11, 3), dtype=np.uint8)
MASK = np.arange(99, dtype=np.uint8).reshape(9, 11)
BOXES = [{"position": {"minX": 0.1, "maxX": 0.2, "minY": 0.3, "maxY": 0.4}, "class_id": 4}]
TONE = np.sin(np.arange(800) / 9)
#: Frames (time, channel, height, width) of few colours.
FRAMES = np.zeros((3, 3, 16, 16), np.uint8)
for _at in range(3):
    FRAMES[_at, _at, :, :8] = 250
POINTS = np.arange(12.0).reshape(2, 6)


def values(wb: Any, folder: Path) -> dict[str, Any]:
    """Return one value of each kind, by key. `folder` takes the files that some are made from."""
    import matplotlib as mpl
    import plotly.graph_objects as go
    import torch
    from matplotlib import pyplot as plt

    mpl.use("Agg")
    (folder / "m.pdb").write_text("ATOM      1  N   MET A   1\n")
    (folder / "o.obj").write_text("v 0 0 0\n")
    (folder / "p.html").write_text("<p>é</p>", encoding="utf-8")
    drawn, axes = plt.subplots()
    axes.imshow(PIXELS)
    graph = wb.Graph()
    graph.add_edge(graph.add_node(id="a"), graph.add_node(id="b"))
    return {
        "image": wb.Image(PIXELS, caption="seven"),
        "tensor": wb.Image(torch.from_numpy(PIXELS).permute(2, 0, 1)),
        "layers": wb.Image(PIXELS, masks={"m": {"mask_data": MASK}}, boxes={"b": {"box_data": BOXES}}),
        "images": [wb.Image(PIXELS), wb.Image(255 - PIXELS, caption="negative")],
        "audio": wb.Audio(TONE, sample_rate=8000),
        "sounds": [wb.Audio(TONE, sample_rate=8000), wb.Audio(-TONE, sample_rate=8000)],
        "gif": wb.Video(FRAMES, fps=4),
        "mp4": wb.Video(FRAMES, fps=4, format="mp4"),
        "webm": wb.Video(FRAMES, fps=4, format="webm"),
        "videos": [wb.Video(FRAMES), wb.Video(FRAMES[::-1])],
        "html": wb.Html(str(folder / "p.html"), inject=False),
        "pages": [wb.Html("<b>1</b>"), wb.Html("<b>2</b>")],
        "molecule": wb.Molecule(str(folder / "m.pdb")),
        "molecules": [wb.Molecule(str(folder / "m.pdb"))],
        "model": wb.Object3D(str(folder / "o.obj")),
        "points": wb.Object3D(POINTS),
        "clouds": [wb.Object3D(POINTS), wb.Object3D(POINTS + 1)],
        "plotly": go.Figure(data=go.Scatter(x=[1, 2], y=[3, 4])),
        "figure": drawn,
        "graph": graph,
        "histogram": wb.Histogram([1, 2, 3], num_bins=2),
    }


def check(row: dict[str, Any], fetch: Callable[[str], Path]) -> set[str]:
    """Compare a row with what was logged; `fetch` returns the file of a name. Return the keys compared."""
    compared: set[str] = set()

    def expect(key: str, name: str, how: Callable[[Path], Any], expected: Any, tolerance: float = 0) -> None:
        found = how(fetch(name))
        if isinstance(expected, np.ndarray):
            assert found.shape == expected.shape, key
            assert np.abs(found.astype(float) - expected).mean() <= tolerance, key
        else:
            assert found == expected, key
        compared.add(key)

    expect("image", row["image"]["path"], picture, PIXELS)
    expect("tensor", row["tensor"]["path"], picture, PIXELS)
    layers = row["layers"]
    expect("layers", layers["masks"]["m"]["path"], picture, MASK)
    expect("layers", layers["boxes"]["b"]["path"], parsed, {"box_data": BOXES})
    for name, expected in zip(row["images"]["filenames"], (PIXELS, 255 - PIXELS), strict=True):
        expect("images", name, picture, expected)
    expect("audio", row["audio"]["path"], samples, TONE, 1 / 32768)
    for told, expected in zip(row["sounds"]["audio"], (TONE, -TONE), strict=True):
        expect("sounds", told["path"], samples, expected, 1 / 32768)
    shown = FRAMES.transpose(0, 2, 3, 1)
    expect("gif", row["gif"]["path"], gif_frames, shown)
    for key in ("mp4", "webm"):
        expect(key, row[key]["path"], film_frames, shown, 8)
    for told, expected in zip(row["videos"]["videos"], (shown, shown[::-1]), strict=True):
        expect("videos", told["path"], gif_frames, expected)
    expect("html", row["html"]["path"], text, "<p>é</p>")
    for number, told in enumerate(row["pages"]["html"], 1):
        expect("pages", told["path"], lambda path, end=f"<b>{number}</b>": text(path).endswith(end), True)
    expect("molecule", row["molecule"]["path"], text, "ATOM      1  N   MET A   1\n")
    expect("molecules", row["molecules"]["filenames"][0], text, "ATOM      1  N   MET A   1\n")
    expect("model", row["model"]["path"], text, "v 0 0 0\n")
    expect("points", row["points"]["path"], parsed, POINTS.tolist())
    for told, expected in zip(row["clouds"]["objects"], (POINTS, POINTS + 1), strict=True):
        expect("clouds", told["path"], parsed, expected.tolist())
    expect("plotly", row["plotly"]["path"], lambda path: parsed(path)["data"][0]["y"], [3, 4])
    expect("figure", row["figure"]["path"], lambda path: picture(path).shape, (480, 640, 4))
    expect("graph", row["graph"]["path"], lambda path: parsed(path)["edges"], [["a", "b"]])
    assert row["histogram"] == {"_type": "histogram", "values": [1, 2], "bins": [1.0, 2.0, 3.0]}
    return compared | {"histogram"}


def picture(path: Path) -> np.ndarray:
    """Return the pixels of an image file."""
    from PIL import Image

    with Image.open(path) as opened:
        return np.asarray(opened)


def samples(path: Path) -> np.ndarray:
    """Return the samples of a sound file."""
    import soundfile

    found, rate = soundfile.read(path)
    assert rate == 8000
    return np.asarray(found)


def gif_frames(path: Path) -> np.ndarray:
    """Return the frames of a GIF."""
    from PIL import Image, ImageSequence

    with Image.open(path) as opened:
        return np.stack([np.asarray(frame.convert("RGB")) for frame in ImageSequence.Iterator(opened)])


def film_frames(path: Path) -> np.ndarray:
    """Return the frames of a film."""
    import av

    with av.open(str(path)) as container:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])


def text(path: Path) -> str:
    """Return the text of a file."""
    return path.read_text(encoding="utf-8")


def parsed(path: Path) -> Any:
    """Return what a JSON file says."""
    return json.loads(text(path))
