"""Localisation against a model: exact 2D-3D matches with outliers, files read back, and a rendered scene end to end."""

import csv
import json

import numpy as np
import pytest

from datasets.cameras import Camera, Pose, Reference
from datasets.scenes.rendered import render_scene
from desdis.errors import UserError
from pipeline.localize import Localised, errors, main
from pipeline.mappers.absolute_pose import SparseMap, quaternion
from pipeline.metrics.poses import rotation_error_deg
from tests.pipeline.synthetic_run import FOCAL, HEIGHT, WIDTH, Run, reconstruct, write_run


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Run:
    return reconstruct(write_run(tmp_path_factory.mktemp("scene")))


def sightings(run: Run, name: str, count: int, outliers: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, Pose]:
    """Keypoints of a new view, half a step beside a registered one, with right and wrong 2D-3D matches."""
    import pycolmap

    generator = np.random.default_rng(3)
    model = pycolmap.Reconstruction(run.work.sparse / "0")
    image = next(i for i in model.images.values() if i.name == name)
    moved = image.cam_from_world()
    pose = Pose(moved.rotation.matrix(), moved.translation + np.array([0.05, -0.02, 0.03]))
    ids = np.array([p.point3D_id for p in image.points2D if p.has_point3D()])[:count]
    xyz = np.array([model.points3D[int(i)].xyz for i in ids])
    camera = xyz @ pose.R.T + pose.t
    K = run.survey.cameras[1].K
    xy = (camera @ K.T)[:, :2] / camera[:, 2:] + generator.normal(size=(len(ids), 2)) * 0.3
    rows = np.concatenate([np.arange(len(ids)), generator.integers(0, len(ids), outliers)])
    wrong = generator.permutation(np.resize(ids, outliers))
    return xy.astype(np.float32), rows, np.concatenate([ids, wrong]), pose


def test_known_camera(run):
    xy, rows, ids, pose = sightings(run, "a/0001.png", 80, 60)
    located = SparseMap(run.work.sparse / "0").locate(run.survey.cameras[1], xy, rows, ids, 12.0, 0)
    assert located is not None and len(located.rows) >= 75
    assert rotation_error_deg(located.pose.R, pose.R) < 0.1
    assert np.linalg.norm(located.pose.centre - pose.centre) < 0.02
    assert len(set(located.rows)) == len(set(located.point_ids)) == len(located.rows)
    assert located.camera.params == run.survey.cameras[1].params


def test_unknown_focal_length(run):
    xy, rows, ids, pose = sightings(run, "a/0001.png", 80, 20)
    guess = Camera("SIMPLE_PINHOLE", WIDTH, HEIGHT, (1.2 * WIDTH, WIDTH / 2 + 3.0, HEIGHT / 2 - 2.0))
    located = SparseMap(run.work.sparse / "0").locate(guess, xy, rows, ids, 12.0, 0)
    assert located is not None and abs(located.camera.params[0] - FOCAL) < 0.03 * FOCAL
    assert rotation_error_deg(located.pose.R, pose.R) < 1


def test_nothing_fits(run):
    sparse = SparseMap(run.work.sparse / "0")
    none = np.zeros(0, np.int64)
    assert sparse.locate(run.survey.cameras[1], np.zeros((5, 2), np.float32), none, none, 12.0, 0) is None


def test_the_copy_of_the_model_holds_the_query(run, tmp_path):
    import pycolmap

    sparse = SparseMap(run.work.sparse / "0")
    xy, rows, ids, _ = sightings(run, "a/0001.png", 80, 0)
    located = sparse.locate(run.survey.cameras[1], xy, rows, ids, 12.0, 0)
    assert located is not None
    sparse.add("new.png", xy, located)
    sparse.write(tmp_path / "sparse")
    before, after = pycolmap.Reconstruction(run.work.sparse / "0"), pycolmap.Reconstruction(tmp_path / "sparse")
    assert after.num_reg_images() == before.num_reg_images() + 1 and after.num_points3D() == before.num_points3D()
    image = next(i for i in after.images.values() if i.name == "new.png")
    seen = {row: p.point3D_id for row, p in enumerate(image.points2D) if p.has_point3D()}
    assert seen == dict(zip(located.rows.tolist(), located.point_ids.tolist(), strict=True))
    assert after.compute_num_observations() == before.compute_num_observations() + len(seen)
    np.testing.assert_allclose(image.cam_from_world().translation, located.pose.t)


def test_features_of_another_run_are_refused(run):
    with pytest.raises(UserError, match=r"0001\.png: 3 keypoints in features\.h5.*not of one run"):
        SparseMap(run.work.sparse / "0").point_ids("0001.png", 3)


def test_quaternion():
    c = np.sqrt(0.5)
    np.testing.assert_allclose(quaternion(np.array([[0, -1, 0], [1, 0, 0], [0, 0, 1]])), [c, 0, 0, c], atol=1e-12)
    assert quaternion(np.diag([1.0, -1.0, -1.0]))[0] >= 0


def test_errors_do_not_depend_on_the_models_world():
    generator = np.random.default_rng(0)
    true = {}
    for i in range(6):
        R = np.linalg.qr(generator.normal(size=(3, 3)))[0]
        R *= np.sign(np.linalg.det(R))
        true[f"{i}.jpg"] = Pose(R, generator.normal(size=3))
    turn = np.linalg.qr(generator.normal(size=(3, 3)))[0]
    turn *= np.sign(np.linalg.det(turn))

    def elsewhere(pose: Pose) -> Pose:
        """The same camera in a world turned, scaled by 3 and shifted."""
        R, centre = pose.R @ turn.T, 3 * turn @ pose.centre + [1, 2, 3]
        return Pose(R, -R @ centre)

    model = {name: elsewhere(pose) for name, pose in true.items() if name != "5.jpg"}
    exact = [Localised("5.jpg", elsewhere(true["5.jpg"]), 20, 30, "0.jpg")]
    measured = errors(exact, model, Reference(true))["5.jpg"]
    assert measured["rotation_deg"] < 1e-5 and measured["centre_percent"] < 1e-8
    failed = errors([Localised("5.jpg", None, 3, 30, "0.jpg")], model, Reference(true))["5.jpg"]
    assert failed["rotation_deg"] == failed["centre"] == np.inf
    assert errors(exact, dict(list(model.items())[:2]), Reference(true))["5.jpg"]["rotation_deg"] < 1e-5
    with pytest.raises(UserError, match="1 registered photographs"):
        errors(exact, dict(list(model.items())[:1]), Reference(true))
    with pytest.raises(UserError, match="in one place"):
        errors(exact, {name: Pose(pose.R, -pose.R @ np.ones(3)) for name, pose in model.items()}, Reference(true))


def test_rendered_scene_end_to_end(tmp_path, capsys):
    """Eight photographs are mapped; two that were kept back are localised, one of them upside down too, although the
    level model was described upright; an unrelated one is not."""
    import cv2

    from pipeline.recipe import load_recipe
    from pipeline.run import run
    from tests.pipeline.pictures import picture

    reference = render_scene(tmp_path / "scene", n_images=10, size=(400, 300), arc=40)
    (tmp_path / "queries" / "sub").mkdir(parents=True)
    for source, target in (("0003.jpg", "0003.jpg"), ("0006.jpg", "sub/0006.jpg")):
        (tmp_path / "scene/images" / source).rename(tmp_path / "queries" / target)
    cv2.imwrite(str(tmp_path / "queries/stranger.png"), picture(300, 400, seed=9))
    options = ["descriptor.name=rootsift", "detector.max_keypoints=1500", "device=cpu"]
    cv2.imwrite(str(tmp_path / "queries/turned.png"), cv2.imread(str(tmp_path / "queries/0003.jpg"))[::-1, ::-1])
    result = run(
        load_recipe(None, options), tmp_path / "scene/images", tmp_path / "run", cameras=tmp_path / "scene/cameras"
    )
    assert result["models"][0]["registered_images"] == 8 and result["orientation"]["decision"] == "upright"
    camera = next(iter(reference.cameras.values()))
    (tmp_path / "cameras.txt").write_text(f"1 PINHOLE 400 300 {' '.join(map(str, camera.params))}\n")
    (tmp_path / "scene/cameras/sub").mkdir()
    status = main(
        [
            str(tmp_path / "run"), "--queries", str(tmp_path / "queries"), "--cameras", str(tmp_path / "cameras.txt"),
            "--reference", str(tmp_path / "scene/cameras"), "--device", "cpu",
        ]
    )  # fmt: skip
    assert status == 0 and "3 of 4 localised" in capsys.readouterr().out
    folder = tmp_path / "run/localized/queries"
    rows = {row["name"]: row for row in csv.DictReader((folder / "poses.csv").read_text().splitlines())}
    assert {name: row["status"] for name, row in rows.items()} == {
        "0003.jpg": "localised", "sub/0006.jpg": "localised", "stranger.png": "failed",
        "turned.png": "localised",
    }  # fmt: skip
    assert rows["stranger.png"]["qw"] == ""
    accuracy = json.loads((folder / "accuracy.json").read_text())
    for name in ("0003.jpg", "sub/0006.jpg"):
        assert accuracy[name]["rotation_deg"] < 0.3 and accuracy[name]["centre_percent"] < 2
    lines = [line.split() for line in (folder / "poses.txt").read_text().splitlines()]
    assert [line[0] for line in lines] == ["0003.jpg", "stranger.png", "0006.jpg", "turned.png"] and {
        len(line) for line in lines
    } == {8}
    q = np.array([float(word) for word in lines[0][1:5]])
    np.testing.assert_allclose(q, [float(rows["0003.jpg"][key]) for key in ("qw", "qx", "qy", "qz")])
    import pycolmap

    names = {image.name for image in pycolmap.Reconstruction(folder / "sparse/0").images.values()}
    assert {"0003.jpg", "sub/0006.jpg"} <= names and len(names) == 11
