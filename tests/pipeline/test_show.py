"""Single pictures from the command line."""

import json

import cv2
import numpy as np
import pytest

from pipeline import show
from pipeline.html.contents import read_contents
from pipeline.html.pictures import draw_pair
from pipeline.html.render import best_eye, draw_model
from tests.pipeline.html.finished_run import finished_run


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return finished_run(tmp_path_factory.mktemp("run"))


@pytest.mark.parametrize("words", [["graph"], ["model"], ["keypoints", "0001"], ["pair", "0001.png", "wide angle"]])
def test_draws(run, words, tmp_path, capsys):
    output, _ = run
    path = tmp_path / "new folder" / "picture.png"
    assert show.main([str(output), *words, "--output", str(path), "--size", "640x360"]) == 0
    assert capsys.readouterr().out.strip() == str(path)
    picture = cv2.imread(str(path))
    assert picture is not None and max(picture.shape) <= 640 and len(np.unique(picture.reshape(-1, 3), axis=0)) > 50


def test_writes_into_the_run_by_default(run):
    output, _ = run
    assert show.main([str(output), "keypoints", "a/wide angle.png"]) == 0
    assert (output / "pictures" / "keypoints-a-wide angle.png.png").is_file()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["keypoints", "nobody"], "nobody: no photograph of this run is called so"),
        (["pair", "0001"], "pair: takes 2 photograph names, 1 given"),
        (["pair", "0001", "0001"], "this pair was not matched"),
        (["model", "--output", "model.jpg"], "let the name end in .png"),
    ],
)
def test_says_what_is_wrong(run, words, message, capsys):
    assert show.main([str(run[0]), *words]) == 2
    assert message in capsys.readouterr().err


def test_not_a_run(tmp_path, capsys):
    assert show.main([str(tmp_path), "graph"]) == 2
    assert "there is no report.json" in capsys.readouterr().err


def test_a_pair_can_be_turned(run):
    output, report = run
    contents = read_contents(output, json.loads(json.dumps(report)))
    pair = contents.verified[0]
    straight, turned = draw_pair(contents, pair, 600), draw_pair(contents, pair.turned(), 600)
    half = straight.shape[1] // 2
    # The first photograph of one is the second of the other: the outer columns carry no lines.
    np.testing.assert_allclose(straight[:, :4].mean(), turned[:, half + 10 : half + 14].mean(), atol=12)
    assert not np.array_equal(straight, turned)


def test_points_and_cameras_are_inside_the_picture(run):
    output, report = run
    model = read_contents(output, report).model
    assert model is not None
    from pipeline.html.scene import frame

    at = frame(model)
    eye = best_eye(model, 640, 360)
    centres = at.points(np.array([view.pose.centre for view in model.views.values()]))
    pixels, depth = eye.project(np.vstack([centres, at.points(np.median(model.xyz, axis=0))[None]]), 640, 360)
    assert (depth > 0).all() and (pixels > 0).all() and (pixels < (640, 360)).all()
    # Up in the scene is up in the picture.
    low, high = (eye.project(np.array([[0.0, 0, z]]), 640, 360)[0][0, 1] for z in (-0.5, 0.5))
    assert high < low
    picture = draw_model(model, 640, 360)
    assert (np.abs(picture.astype(int) - (90, 200, 255)).sum(axis=2) < 60).sum() > 100  # frusta are there
