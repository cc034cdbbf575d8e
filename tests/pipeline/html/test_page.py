"""report.html without a browser: what is in it, how large it is, what it says when things are missing."""

import json
import re
import shutil
from html import unescape

import numpy as np
import pytest

from datasets.cameras import Pose
from pipeline.html import page, write_html
from pipeline.html.contents import Contents, Pair, SparseModel, View, read_contents
from pipeline.html.scene import frame, frustum
from tests.pipeline.html.finished_run import NAMES, finished_run


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return finished_run(tmp_path_factory.mktemp("run"))


def test_contents_agree_with_the_report(run):
    output, report = run
    contents = read_contents(output, report)
    assert contents.names == sorted(NAMES) and not contents.notes
    assert {n: len(k) for n, k in contents.keypoints.items()} == report["images"]["keypoints"]
    edges = {frozenset(e["images"]): e for e in report["view_graph"]["edges"]}
    assert len(contents.pairs) == len(edges)
    for pair in contents.pairs:
        edge = edges[frozenset(pair.names)]
        assert (len(pair.inliers), pair.matches, pair.config) == (edge["inliers"], edge["matches"], edge["config"])
    assert contents.model is not None
    model = report["models"][0]
    assert len(contents.model.xyz) == model["points3D"]
    assert contents.model.track_length.sum() == sum(len(v.observed) for v in contents.model.views.values())


def test_residuals_are_those_of_the_model(run):
    output, report = run
    contents = read_contents(output, report)
    assert contents.model is not None
    errors = np.concatenate([view.errors for view in contents.model.views.values()])
    assert errors.mean() == pytest.approx(report["models"][0]["mean_reprojection_error_px"], rel=0.15)  # made 0.2 px
    assert 0.05 < np.median(errors) < 0.5


def test_the_reference_lies_on_the_model(run):
    output, report = run
    contents = read_contents(output, report)
    assert contents.model is not None and set(contents.reference) == set(contents.model.views)
    for name, view in contents.model.views.items():
        np.testing.assert_allclose(contents.reference[name].centre, view.pose.centre, atol=1e-6)
        np.testing.assert_allclose(contents.reference[name].R, view.pose.R, atol=1e-6)


def test_no_name_breaks_out(run):
    text = write_html(*run).read_text(encoding="utf-8")
    assert "&lt;script&gt;window.broken=1&lt;.png" in text
    assert "<script>window" not in text and "<img src=q" not in text
    # Two scripts that run, one of data; nothing else opens or closes a script.
    assert len(re.findall(r"<script[ >]", text)) == len(re.findall(r"</script>", text)) == 3
    data = re.search(r'id="data">(.*?)</script>', text, re.DOTALL)
    assert data and set(json.loads(data[1])) == {"figures", "scene"}


def test_nothing_is_fetched(run):
    text = write_html(*run).read_text(encoding="utf-8")
    head = unescape(text[: text.index("</style>")])
    assert "default-src 'none'" in head and "unsafe-inline'; img-src data: blob:" in head
    outside = re.findall(r'(?:src|href)="(?!#|data:|[a-z0-9_./]+")([^"]*)"', text[: text.index('id="data"')])
    assert outside == []


def test_says_what_is_missing(run, tmp_path):
    output, report = run
    copy = tmp_path / "copy"
    shutil.copytree(output, copy)
    shutil.rmtree(copy / "sparse")
    (copy / "database.db").unlink()
    report = json.loads(json.dumps(report))
    report["images"]["root"] = str(tmp_path / "gone")
    report |= {"models": [], "accuracy": None, "reference": None}
    text = write_html(copy, report).read_text(encoding="utf-8")
    for said in ("no longer lie in", "There is no database.db", "Nothing could be reconstructed"):
        assert said in text
    assert "data:image/jpeg" not in text


def test_small_with_a_hundred_photographs(run, monkeypatch, tmp_path):
    """Noise is what JPEG packs worst; all pairs verified, more points than are drawn."""
    import cv2

    _, report = run
    generator = np.random.default_rng(0)
    names = [f"{k:03}.jpg" for k in range(100)]
    for name in names:
        cv2.imwrite(str(tmp_path / name), generator.integers(0, 255, (240, 320, 3)).astype(np.uint8))
    views = {
        name: View(
            Pose(np.eye(3), np.array([0.1 * k, 0, 4.0])),
            np.arange(800),
            generator.integers(0, 60_000, 800),
            generator.normal(size=(800, 2)),
            (0.5, 0.4),
        )
        for k, name in enumerate(names)
    }
    model = SparseModel(
        generator.normal(size=(60_000, 3)),
        generator.integers(0, 255, (60_000, 3)).astype(np.uint8),
        generator.integers(2, 9, 60_000),
        views,
    )
    pairs = [
        Pair((a, b), 150, generator.integers(0, 2000, (100, 2)), "CALIBRATED")
        for i, a in enumerate(names)
        for b in names[i + 1 :]
    ]
    keypoints = {name: generator.uniform(0, 240, (2000, 2)).astype(np.float32) for name in names}
    scores = {name: generator.random(2000).astype(np.float32) for name in names}
    sizes = dict.fromkeys(names, (320, 240))
    contents = Contents(tmp_path, tmp_path, names, sizes, keypoints, scores, pairs, model, {})
    monkeypatch.setattr(page, "read_contents", lambda *_: contents)
    path = write_html(tmp_path, report | {"accuracy": None})
    assert path.stat().st_size < 10e6


def test_the_scene_stands_upright():
    """Cameras that look along the world's x with the world's -z up: right, away and up come out as x, y and z."""
    R = np.array([[0.0, 1, 0], [0, 0, 1], [1, 0, 0]])  # rows: camera's right, down, forward in the world
    empty = np.zeros(0, np.int64)
    views = {str(k): View(Pose(R, -R @ np.array([-5, k, 0.0])), empty, empty, np.zeros((0, 2)), (0.5, 0.4))
             for k in range(3)}  # fmt: skip
    points = np.random.default_rng(0).normal(size=(100, 3))
    at = frame(SparseModel(points, np.zeros((100, 3), np.uint8), np.full(100, 2), views))
    np.testing.assert_allclose(at.R @ [1, 0, 0], [0, 1, 0], atol=1e-12)
    np.testing.assert_allclose(at.R @ [0, 0, -1], [0, 0, 1], atol=1e-12)
    assert np.linalg.det(at.R) == pytest.approx(1)
    view = views["0"]
    corners = frustum(view.pose.R, view.pose.centre, (0.5, 0.4), 0.1, at)
    np.testing.assert_allclose(corners[0], at.points(view.pose.centre), atol=1e-12)
    assert (corners[1:, 1] > corners[0, 1]).all()  # the picture lies before the camera
    assert corners[1, 2] > corners[4, 2] and corners[1, 0] < corners[2, 0]  # its top is up and its left is left


@pytest.mark.parametrize(
    ("value", "text"), [(0.44, "0.4 s"), (99, "99.0 s"), (200, "3 min 20 s"), (7500, "2 h 05 min")]
)
def test_durations(value, text):
    assert page.seconds(value) == text
