"""Scenarios of media, in the form of `scenarios.py`; media_oracle.json is what wandb 0.31.0 did with them.

They need numpy, Pillow, matplotlib, plotly, soundfile and, for the real client, moviepy.
"""

from __future__ import annotations

import io
import os
import warnings

from registry import Registry
from scenarios import done, exc, init

scenario = SCENARIOS = Registry()


def np():
    import numpy

    return numpy


def pixels(height=4, width=6, channels=3):
    n = np()
    shape = (height, width, channels) if channels else (height, width)
    return (n.arange(n.prod(shape)) % 256).astype(n.uint8).reshape(shape)


@scenario("media")
def image_from_arrays(wb):
    n = np()
    run = init(wb)
    run.log({"rgb": wb.Image(pixels())})
    run.log({"rgba": wb.Image(pixels(channels=4)), "gray": wb.Image(pixels(channels=0)), "x": 1})
    run.log({"one": wb.Image(pixels(channels=1)), "ints": wb.Image(n.arange(24).reshape(4, 6))})
    run.log({"cap": wb.Image(pixels(), caption="a cat", grouping=3)})
    run.log({"a/b": {"c": wb.Image(pixels()), "d/e": wb.Image(pixels())}})
    run.log({"jpg": wb.Image(pixels(), file_type="jpg"), "bmp": wb.Image(pixels(), file_type="bmp")})
    run.log({"mode": wb.Image(pixels(), mode="L")})
    run.log({"/lead": wb.Image(pixels()), "up/../x": wb.Image(pixels()), "dots.key": wb.Image(pixels())})
    return done(run)


@scenario("media")
def image_steps_in_names(wb):
    run = init(wb)
    im = wb.Html
    run.log({"a": im("a0")}, step=5)
    run.log({"a": im("a1")}, step=6)
    run.log({"b": im("b")})
    run.log({"a": im("a2")}, commit=False)
    run.log({"b": im("b2"), "x": 3})
    run.log({"a": im("a3")}, step=20, commit=True)
    run.log({"a": im("a4")})
    return done(run)


@scenario("media")
def image_from_elsewhere(wb):
    from PIL import Image

    run = init(wb)
    pil = Image.fromarray(pixels())
    pil.save("file.png")
    run.log({"pil": wb.Image(pil, caption="c")})
    run.log({"path": wb.Image("file.png")})
    again = wb.Image(pixels())
    run.log({"again": again})
    run.log({"again": again, "other": again})
    run.log({"copy": wb.Image(again, caption="copied")})
    return done(run)


@scenario("media")
def image_lists(wb):
    run = init(wb)
    run.log({"list": [wb.Image(pixels(), caption="a"), wb.Image(pixels(channels=0))]})
    run.log({"tuple": (wb.Image(pixels(channels=0)), wb.Image(pixels()))})
    run.log({"mixed": [wb.Image(pixels()), wb.Html("x")]})
    run.log({"empty": [], "one": [wb.Image(pixels())]})
    r = [exc(run.log, {"bad": [wb.Image(pixels()), 3]}), exc(run.log, {"bad": [3, wb.Image(pixels())]})]
    r += [exc(run.log, {"deep": [[wb.Html("in")]]}), exc(run.log, {"d": [{"k": wb.Html("in")}]})]
    r += [exc(run.log, {"set": (wb.Html(str(i)) for i in range(2))})]
    return done(run, r=r)


@scenario("media")
def image_boxes_and_masks(wb):
    n = np()
    run = init(wb)
    boxes = {
        "predictions": {
            "box_data": [
                {
                    "position": {"minX": 0.1, "maxX": 0.2, "minY": 0.3, "maxY": 0.4},
                    "class_id": 2,
                    "box_caption": "two",
                    "scores": {"acc": 0.5},
                },
                {
                    "position": {"middle": [2, 2], "width": 1, "height": 1},
                    "domain": "pixel",
                    "class_id": 1,
                },
            ],
            "class_labels": {1: "one", 2: "two"},
        },
        "plain": {
            "box_data": [{"position": {"minX": 0, "maxX": 1, "minY": 0, "maxY": 1}, "class_id": 7}],
        },
    }
    mask = n.array([[0, 1, 2, 0, 1, 2]] * 4, dtype=n.uint8)
    masks = {
        "truth": {"mask_data": mask, "class_labels": {0: "zero", 1: "one", 2: "two"}},
        "plain": {"mask_data": mask},
    }
    run.log({"both": wb.Image(pixels(), boxes=boxes, masks=masks)})
    classes = wb.Classes([{"id": 0, "name": "zero"}, {"id": 1, "name": "one"}])
    run.log({"cls": wb.Image(pixels(), classes=classes)})
    run.log(
        {
            "list": [
                wb.Image(pixels(), masks={"m": {"mask_data": mask}}, boxes={"b": boxes["plain"]}),
                wb.Image(pixels()),
            ]
        }
    )
    run.log({"n": {"x": wb.Image(pixels(), boxes={"b": boxes["plain"]})}})
    return done(run)


@scenario("media")
def image_errors(wb):
    n = np()
    run = init(wb)
    open("corrupt.png", "wb").write(b"this is no image")
    ok = pixels()
    box = {"position": {"minX": 0, "maxX": 1, "minY": 0, "maxY": 1}, "class_id": 1}

    def boxes(**changes):
        return lambda: wb.Image(ok, boxes={"b": {"box_data": [{**box, **changes}]}})

    def masks(value):
        return lambda: wb.Image(ok, masks={"m": value})

    from PIL import Image

    Image.fromarray(ok).save("gone.png")
    gone = wb.Image("gone.png")
    os.remove("gone.png")
    r = {
        "corrupt": exc(wb.Image, "corrupt.png"),
        "missing": exc(wb.Image, "nowhere.png"),
        "two_channels": exc(wb.Image, n.zeros((4, 4, 2), n.uint8)),
        "four_dims": exc(wb.Image, n.zeros((2, 4, 4, 3), n.uint8)),
        "file_type": exc(wb.Image, ok, file_type="tiff"),
        "strings": exc(wb.Image, n.array([["a", "b"]])),
        "boxes_list": exc(wb.Image, ok, boxes=[1]),
        "masks_list": exc(wb.Image, ok, masks=[1]),
        "box_no_position": exc(lambda: wb.Image(ok, boxes={"b": {"box_data": [{"class_id": 1}]}})),
        "box_position": exc(boxes(position={"minX": 1})),
        "box_class": exc(boxes(class_id="1")),
        "box_scores": exc(boxes(scores=[1])),
        "box_score_value": exc(boxes(scores={"a": "x"})),
        "box_caption": exc(boxes(box_caption=1)),
        "box_labels": exc(lambda: wb.Image(ok, boxes={"b": {"box_data": [box], "class_labels": {"a": 1}}})),
        "boxes_tuple": exc(lambda: wb.Image(ok, boxes={"b": {"box_data": (box,)}})),
        "boxes_no_data": exc(lambda: wb.Image(ok, boxes={"b": {}})),
        "mask_none": exc(masks({})),
        "mask_3d": exc(masks({"mask_data": n.zeros((2, 2, 2), n.uint8)})),
        "mask_range": exc(masks({"mask_data": n.array([[300, 1]])})),
        "mask_labels": exc(masks({"mask_data": n.zeros((2, 2), n.uint8), "class_labels": {"a": "b"}})),
        "classes": exc(wb.Classes, [{"id": 1}]),
        "gone": exc(run.log, {"gone": gone, "x": 1}),
        "reference": exc(run.log, {"ref": wb.Image("https://example.com/a.png"), "x": 1}),
        "config": exc(run.config.update, {"image": wb.Image(ok)}),
        "step": run.step,
    }
    return done(run, **r)


@scenario("media")
def audio_and_video(wb):
    n = np()
    run = init(wb)
    tone = n.sin(n.arange(800) / 10)
    run.log({"audio": wb.Audio(tone, sample_rate=8000, caption="tone")})
    run.log({"list": [wb.Audio(tone, sample_rate=8000), wb.Audio(tone, sample_rate=4000, caption="b")]})
    run.log({"pair": [wb.Audio(tone, sample_rate=8000)]})
    open("file.mp3", "wb").write(b"not really")
    run.log({"path": wb.Audio("file.mp3", caption="p")})
    open("file.mp4", "wb").write(b"not really")
    run.log({"video": wb.Video("file.mp4", caption="v")})
    run.log({"bytes": wb.Video(io.BytesIO(b"gif"), format="gif")})
    run.log({"videos": [wb.Video("file.mp4"), wb.Video("file.mp4", caption="second")]})
    r = [
        exc(wb.Audio, tone),
        exc(wb.Audio, "nowhere.wav"),
        exc(wb.Video, "nowhere.mp4"),
        exc(wb.Video, "file.avi"),
        exc(wb.Video, io.BytesIO(b"gif")),
        exc(wb.Video, n.zeros((3, 3, 4), n.uint8), format="gif"),
        exc(wb.Video, n.zeros((3, 3, 4, 4), n.uint8), format="avi"),
        exc(wb.Video, [1, 2], format="gif"),
        exc(run.log, {"ref": wb.Audio("s3://bucket/a.wav")}),
    ]
    return done(run, r=r)


@scenario("media")
def video_from_array(wb):
    n = np()
    run = init(wb)
    frames = (n.arange(3 * 3 * 16 * 16) % 256).astype(n.uint8).reshape(3, 3, 16, 16)
    run.log({"gif": wb.Video(frames, format="gif", fps=2, caption="g")})
    run.log({"batch": wb.Video(n.stack([frames, frames]), format="gif")})
    return done(run)


@scenario("media")
def html_and_text_media(wb):
    run = init(wb)
    open("page.html", "w").write("<html><body>x</body></html>")
    open("m.pdb", "w").write("ATOM")
    open("o.obj", "w").write("v 0 0 0")
    run.log({"head": wb.Html("<html><head></head><body>x</body></html>"), "raw": wb.Html("x", inject=False)})
    run.log({"path": wb.Html("page.html"), "pathraw": wb.Html("page.html", inject=False)})
    run.log({"text": wb.Html("page.html", data_is_not_path=True), "io": wb.Html(io.StringIO("<b>é</b>"))})
    run.log({"list": [wb.Html("a"), wb.Html("b")]})
    run.log({"mol": wb.Molecule("m.pdb", caption="m"), "obj": wb.Object3D("o.obj", caption="o")})
    run.log({"mio": wb.Molecule(io.StringIO("X"), file_type="cif")})
    run.log({"mols": [wb.Molecule("m.pdb"), wb.Molecule("m.pdb", caption="b")]})
    run.log({"openobj": wb.Object3D(open("o.obj")), "oio": wb.Object3D(io.StringIO("X"), file_type="stl")})
    run.log({"objs": [wb.Object3D("o.obj"), wb.Object3D("o.obj")]})
    run.summary["s"] = wb.Html("in the summary")
    r = [
        exc(wb.Html, 3),
        exc(wb.Molecule, "m.xyz"),
        exc(wb.Molecule, io.StringIO("X")),
        exc(wb.Molecule, io.StringIO("X"), file_type="xyz"),
        exc(wb.Molecule, 3),
        exc(wb.Molecule, "nowhere.pdb"),
        exc(wb.Object3D, "o.xyz"),
        exc(wb.Object3D, io.StringIO("X")),
        exc(wb.Object3D, io.StringIO("X"), file_type="xyz"),
        exc(wb.Object3D, 3),
        exc(wb.Object3D, "nowhere.obj"),
    ]
    return done(run, r=r)


@scenario("media")
def point_clouds(wb):
    n = np()
    run = init(wb)
    for columns in (3, 4, 6):
        run.log({"points": wb.Object3D(n.arange(2.0 * columns).reshape(2, columns))})
    run.log({"numpy": wb.Object3D.from_numpy(n.ones((2, 3)))})
    box = {
        "corners": [[0, 0, 0]] * 8,
        "label": "car",
        "color": [1, 2, 3],
    }
    run.log(
        {"cloud": wb.Object3D.from_point_cloud([[0, 1, 2]], [box], [{"start": [0, 0, 0], "end": [1, 1, 1]}])}
    )
    run.log({"scene": wb.Object3D({"type": "lidar/beta", "points": n.ones((1, 3))})})
    run.log(
        {
            "box": wb.Object3D.from_point_cloud(
                [[0, 1, 2]],
                [
                    wb.box3d(
                        center=(0, 0, 0), size=(1, 2, 4), orientation=(1, 0, 0, 0), color=(1, 0, 0), label="b"
                    )
                ],
            )
        }
    )
    r = [
        exc(wb.Object3D, n.ones((2, 5))),
        exc(wb.Object3D, n.ones(3)),
        exc(wb.Object3D, {"type": "other"}),
        exc(wb.Object3D.from_numpy, [[1, 2, 3]]),
        exc(wb.Object3D.from_point_cloud, [[0, 1, 2]], [], point_cloud_type="x"),
        exc(wb.box3d, center=(0, 0, 0), size=(1, 2, 4), orientation=(0, 0, 0, 0), color=(1, 0, 0)),
    ]
    return done(run, r=r)


@scenario("media")
def figures(wb):
    warnings.simplefilter("ignore")
    import matplotlib

    matplotlib.use("Agg")
    import plotly.graph_objects as go
    from matplotlib import pyplot as plt

    run = init(wb)
    run.log({"plotly": go.Figure(data=go.Scatter(x=[1, 2], y=[3, 4]))})
    run.log({"class": wb.Plotly(go.Figure(data=go.Scatter(x=np().array([1, 2]), y=[3, 4])))})
    fig, ax = plt.subplots()
    ax.imshow(pixels())
    run.log({"with_image": fig})
    run.log({"image": wb.Image(fig)})
    r = [exc(wb.Plotly, 3), exc(wb.Plotly, fig)]
    graph = wb.Graph() if hasattr(wb, "Graph") else None
    a = graph.add_node(id="a", name="A", class_name="Linear", size=(2, 3), parameters=[("w", [2, 3])])
    b = graph.add_node(id="b", name="B", output_shape=[4], num_parameters=5)
    graph.add_edge(a, b)
    run.log({"graph": graph})
    run.summary["graph_0"] = graph
    return done(run, r=r)


@scenario("media")
def media_summaries(wb):
    run = init(wb)
    run.define_metric("none", summary="none")
    run.define_metric("min", summary="min")
    run.log(
        {
            "none": wb.Html("a"),
            "min": wb.Html("b"),
            "x": wb.Image(pixels(), caption="first"),
            "y": wb.Html("y"),
        }
    )
    run.log({"x": wb.Image(pixels(height=5)), "y": 3})
    run.log({"y": wb.Html("y2")}, commit=False)
    run.log({"y": 4, "h": wb.Histogram([1, 2, 3], num_bins=2)})
    run.log({"h": wb.Html("now html")})
    run.log({"late": wb.Html("uncommitted")}, commit=False)
    live = run.summary.get("late")
    return done(run, live=live)


@scenario("values")
def media_among_others_and_below_keys(wb):
    run = init(wb)
    counted = wb.Histogram([1, 2, 3], num_bins=2)
    run.log({"mixed": [wb.Html("a"), counted], "first": [counted, wb.Html("b")], "d": {"x": wb.Html("c")}})
    run.summary["deep"] = {"a": {"x": wb.Html("d")}, "l": [wb.Image(pixels())]}
    run.summary["part"] = {"q": 1}
    run.summary["part"].update({"w": wb.Html("e")})
    run.summary["mixed_too"] = [wb.Html("f"), wb.Image(pixels())]
    return done(run)


@scenario("values")
def odd_values(wb):
    import datetime
    import functools

    run = init(wb)
    n = np()
    years = datetime.timedelta(days=1000, hours=30)
    run.log(
        {
            "years": years,
            "complex": complex(float("nan"), 1),
            "partial": functools.partial(len),
            "no": range(0),
        }
    )
    run.log({"keys": {True: 1, None: 2, 1.5: 3}, "inside": [{True: 1, False: 0}]})
    run.log({kind: (n.arange(70_000) % 117).astype(kind) for kind in ("f2", "f4", "i8", "u1")})
    run.log({"strided": n.arange(210_000.0)[::2].reshape(3, -1).T})
    r = [exc(run.config.update, {"h": wb.Histogram([1])}), exc(wb.Histogram)]
    run.config.net = {"layers": 1}
    run.config.net["layers"] = 2
    run.config.persist()
    return done(run, r=r)
