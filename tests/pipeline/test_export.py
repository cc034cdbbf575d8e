"""Exports, read back the way the other program reads them (its rules written out here, not ours used again)."""

import json
from pathlib import Path

import cv2
import h5py
import numpy as np
import pytest

from desdis.errors import UserError
from pipeline.export import export, main
from pipeline.finished import FinishedRun
from tests.pipeline.synthetic_run import FOCAL, HEIGHT, WIDTH, Run, reconstruct, write_run

NAMES = ("0001.png", "a/0002.png", "a/b/wide.png", "b-c.png", "z.png")


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Run:
    return reconstruct(write_run(tmp_path_factory.mktemp("scene"), NAMES))


@pytest.fixture(scope="module")
def finished(run) -> FinishedRun:
    return FinishedRun(run.work.output)


@pytest.fixture(scope="module")
def matches(finished) -> dict:
    return dict(finished.matches())


@pytest.fixture(scope="module")
def keypoints(finished) -> dict[str, np.ndarray]:
    return {name: features.keypoints for name, features in finished.features()}


# --- hloc -----------------------------------------------------------------------------------------------------------


def hloc_names(path: Path) -> set[str]:
    """Every parent of a dataset is an image."""
    found = set()
    with h5py.File(path, "r", libver="latest") as file:
        file.visititems(
            lambda _, item: found.add(item.parent.name.strip("/")) if isinstance(item, h5py.Dataset) else None
        )
    return found


def hloc_matches(path: Path, a: str, b: str) -> tuple[np.ndarray, np.ndarray]:
    """New key, then reversed; -1 is no match; columns turn round for a reversed key."""
    with h5py.File(path, "r", libver="latest") as file:
        keys = ["/".join((x.replace("/", "-"), y.replace("/", "-"))) for x, y in ((a, b), (b, a))]
        reverse = keys[0] not in file
        group = file[keys[1] if reverse else keys[0]]
        assert group["matches0"].dtype == np.int16 and group["matching_scores0"].dtype == np.float16
        matches, scores = np.asarray(group["matches0"]), np.asarray(group["matching_scores0"])
    rows = np.where(matches != -1)[0]
    pairs = np.stack([rows, matches[rows]], -1)
    return (np.flip(pairs, -1) if reverse else pairs), scores[rows]


def test_hloc(run, matches, keypoints, tmp_path):
    told = export(run.work.output, "hloc", tmp_path / "hloc")
    assert "5 images" in told
    assert hloc_names(tmp_path / "hloc/features.h5") == set(NAMES)
    with h5py.File(tmp_path / "hloc/features.h5", "r", libver="latest") as file:
        for name in NAMES:
            group = file[name]
            stored = np.asarray(group["keypoints"])
            assert stored.dtype == np.float32
            np.testing.assert_allclose(stored + 0.5, keypoints[name], atol=1e-4)  # hloc's importer adds 0.5
            assert group["descriptors"].shape == (64, len(stored)) and group["scores"].shape == (len(stored),)
            assert group["image_size"][()].tolist() == [WIDTH, HEIGHT] and group["image_size"].dtype == np.int64
    pairs = [line.split() for line in (tmp_path / "hloc/pairs.txt").read_text().split("\n")]
    assert sorted(map(tuple, pairs)) == sorted(run.pairs)
    for a, b in run.pairs:
        for x, y in ((a, b), (b, a)):
            found, scores = hloc_matches(tmp_path / "hloc/matches.h5", x, y)
            expected = matches[a, b].indices if x == a else matches[a, b].indices[:, ::-1]
            assert {tuple(r) for r in found.tolist()} == {tuple(r) for r in expected.tolist()}
            assert len(scores) == len(found)


def test_the_runs_own_files_are_hlocs_too(run):
    assert hloc_names(run.work.features) == set(NAMES)


def test_hloc_refuses_what_int16_cannot_hold(tmp_path):
    run = write_run(tmp_path, ("a.png", "b.png"), points=40)
    reconstruct_database(run)
    from pipeline.files import features as files
    from pipeline.types import Features

    many = 32768
    lafs = np.zeros((many, 2, 3), np.float32)
    lafs[:, 0, 0] = lafs[:, 1, 1] = 1
    with files.appending(run.work.features, {}) as file:
        big = Features(lafs, np.zeros(many, np.float32), {"oriented": np.zeros((many, 4), np.float32)}, (WIDTH, HEIGHT))
        files.write(file, "b.png", big)
    with pytest.raises(UserError, match=r"b\.png: 32768 keypoints.*wrap.*32767"):
        export(run.work.output, "hloc", tmp_path / "hloc")
    assert not (tmp_path / "hloc").exists() and not (tmp_path / "hloc.tmp").exists()


def reconstruct_database(run: Run) -> None:
    from pipeline.stages.verify import VerifyOptions, verify

    verify(run.survey, run.pairs, VerifyOptions.model_validate({}), 0, run.work, 1, lambda n: None)


@pytest.mark.parametrize(
    ("names", "to", "words"),
    [
        (("a/b.png", "a-b.png"), "hloc", "hloc would call both"),
        (("one two.png", "z.png"), "hloc", "'one two.png'"),
        (("a/1.png", "b/1.png"), "deep-image-matching", "would call both a/1.png and b/1.png"),
        (("a/1.png", "b/1.png"), "imc", "would call both"),
        (("1.png", "1.jpg"), "imc", "without suffix"),
        (("one two.png", "z.png"), "colmap", "'one two.png'"),
    ],
)
def test_names_that_a_layout_cannot_hold(tmp_path, names, to, words):
    run = write_run(tmp_path, tuple(sorted(names)), points=40)
    reconstruct_database(run)
    with pytest.raises(UserError, match=words):
        export(run.work.output, to, tmp_path / "out")


# --- IMC ------------------------------------------------------------------------------------------------------------


def test_imc(run, matches, keypoints, tmp_path):
    export(run.work.output, "imc", tmp_path / "imc", scene="phototourism/wall")
    scene = tmp_path / "imc/phototourism/wall"
    stems = {Path(name).stem: name for name in NAMES}
    with h5py.File(scene / "keypoints.h5") as file:
        assert set(file.keys()) == set(stems)
        for stem, name in stems.items():
            np.testing.assert_array_equal(file[stem][()], keypoints[name])
            assert file[stem].shape[1] == 2 and len(file[stem]) <= 2048
    with h5py.File(scene / "descriptors.h5") as file:
        assert set(file.keys()) == set(stems)
        for stem in stems:
            row = file[stem][()][0]
            assert 64 <= len(row) <= 2048 and row.dtype == np.float32 and row.nbytes <= 512
    for one_dimensional in ("scores", "scales", "angles", "orientations"):
        with h5py.File(scene / f"{one_dimensional}.h5") as file:
            assert {stem: file[stem].shape for stem in file} == {s: (len(keypoints[n]),) for s, n in stems.items()}
    with h5py.File(scene / "affine.h5") as file:
        assert all(file[stem].shape == (len(keypoints[name]), 2, 2) for stem, name in stems.items())
    with h5py.File(scene / "matches.h5") as file:
        keys = {f"{max(x, y)}-{min(x, y)}" for x in stems for y in stems if x != y}
        assert set(file.keys()) == keys
        for a, b in run.pairs:
            x, y = Path(a).stem, Path(b).stem
            stored = file[f"{max(x, y)}-{min(x, y)}"][()]
            assert stored.shape[0] == 2 and np.issubdtype(stored.dtype, np.integer)
            expected = matches[a, b].indices.T if x > y else matches[a, b].indices.T[::-1]
            np.testing.assert_array_equal(stored, expected)


def test_imc_configuration(run, tmp_path):
    import re

    run.work.recipe.write_text("detector: {name: dog}\ndescriptor: {name: desdis, weights: official/DesDis-32.pth}\n")
    export(run.work.output, "imc", tmp_path / "imc", scene="phototourism/wall")
    methods = json.loads((tmp_path / "imc/config.json").read_text())
    assert isinstance(methods, list) and len(methods) == 1
    common = methods[0]["config_common"]
    assert re.fullmatch(r"[a-z0-9._-]+", common["json_label"])
    assert re.fullmatch(r"[a-z0-9.-]+", common["keypoint"]) and re.fullmatch(r"[a-z0-9.-]+", common["descriptor"])
    assert common["num_keypoints"] == 2048 and common["descriptor"] == "desdis-32"
    for track in ("stereo", "multiview"):
        config = methods[0][f"config_phototourism_{track}"]
        assert config["use_custom_matches"] is True and config["custom_matches_name"]
        assert "matcher" not in config and "outlier_filter" not in config  # forbidden with own matches
    assert methods[0]["config_phototourism_stereo"]["geom"] == {"method": "cv2-8pt"}
    assert methods[0]["config_phototourism_multiview"]["colmap"] == {}


def test_imc_has_every_pair_also_those_not_matched(tmp_path):
    run = write_run(tmp_path, ("a.png", "b.png", "c.png"), points=60)
    reconstruct_database(run)
    with h5py.File(run.work.matches, "a") as file:
        del file["a.png/c.png"]
    export(run.work.output, "imc", tmp_path / "imc", scene="d/s")
    with h5py.File(tmp_path / "imc/d/s/matches.h5") as file:
        assert set(file.keys()) == {"b-a", "c-a", "c-b"} and file["c-a"].shape == (2, 0)


@pytest.mark.parametrize(
    ("count", "size", "words"),
    [
        (40, 32, r"descriptors of 32 numbers; IMC takes 64 to 2048"),
        (40, 4096, r"descriptors of 4096 numbers"),
        (8001, 64, r"8001 keypoints in an image; IMC allows 8000"),
        (2049, 64, None),
    ],
)
def test_imc_limits(tmp_path, count, size, words):
    from pipeline.files import features as files
    from pipeline.types import Features

    run = write_run(tmp_path, ("a.png", "b.png"), points=40)
    reconstruct_database(run)
    lafs = np.tile(np.array([[1, 0, 50], [0, 1, 50]], np.float32), (count, 1, 1))
    described = {"oriented": np.zeros((count, size), np.float32)}
    with files.appending(run.work.features, {}) as file:
        files.write(file, "b.png", Features(lafs, np.zeros(count, np.float32), described, (WIDTH, HEIGHT)))
    if words:
        with pytest.raises(UserError, match=words):
            export(run.work.output, "imc", tmp_path / "imc", scene="d/s")
        assert not (tmp_path / "imc").exists()
    else:
        export(run.work.output, "imc", tmp_path / "imc", scene="d/s")
        assert json.loads((tmp_path / "imc/config.json").read_text())[0]["config_common"]["num_keypoints"] == 8000


# --- COLMAP ---------------------------------------------------------------------------------------------------------


def colmap_blocks(path: Path) -> dict[tuple[str, str], list[list[int]]]:
    """Two names, rows, an empty line."""
    blocks, pair = {}, None
    for line in path.read_text().split("\n"):
        words = line.split()
        if not words:
            pair = None
        elif pair is None:
            pair = (words[0], words[1])
            blocks[pair] = []
        else:
            blocks[pair].append([int(word) for word in words])
    return blocks


def test_colmap(run, finished, matches, keypoints, tmp_path):
    import pycolmap

    export(run.work.output, "colmap", tmp_path / "colmap")
    with pycolmap.Database.open(tmp_path / "colmap/database.db") as database:
        ids = {image.name: image.image_id for image in database.read_all_images()}
        assert set(ids) == set(NAMES)
        np.testing.assert_array_equal(database.read_keypoints(ids["z.png"])[:, :2], keypoints["z.png"])
    assert pycolmap.Reconstruction(tmp_path / "colmap/sparse/0").num_reg_images() == len(NAMES)
    for name in NAMES:
        header, *rows = (tmp_path / f"colmap/features/{name}.txt").read_text().splitlines()
        assert header == f"{len(keypoints[name])} 128" and len(rows) == len(keypoints[name])
        table = np.array([[float(word) for word in row.split()] for row in rows])
        assert table.shape[1] == 4 + 128 and (table[:, 2] > 0).all()
        np.testing.assert_allclose(table[:, :2], keypoints[name], atol=1e-5)
    raw = colmap_blocks(tmp_path / "colmap/matches.txt")
    assert {pair: len(rows) for pair, rows in raw.items()} == {pair: len(m.indices) for pair, m in matches.items()}
    inliers = colmap_blocks(tmp_path / "colmap/inliers.txt")
    expected = dict(finished.inliers())
    assert set(inliers) == set(expected) and len(inliers) > 5
    for pair, rows in inliers.items():
        assert {tuple(row) for row in rows} == {tuple(row) for row in expected[pair].tolist()}
        assert {tuple(row) for row in rows} <= {tuple(row) for row in matches[pair].indices.tolist()}


# --- deep-image-matching --------------------------------------------------------------------------------------------


def test_deep_image_matching(run, finished, matches, keypoints, tmp_path):
    export(run.work.output, "deep-image-matching", tmp_path / "dim")
    with h5py.File(tmp_path / "dim/features.h5", "r") as file:
        assert set(file.keys()) == {Path(name).name for name in NAMES}
        for name in NAMES:
            group = file[Path(name).name]
            assert group["image_size"][()].tolist() == [HEIGHT, WIDTH]
            np.testing.assert_array_equal(group["keypoints"][()], keypoints[name])
            assert group["descriptors"].shape == (64, len(keypoints[name]))
            assert group["tile_idx"].shape == group["scores"].shape == (len(keypoints[name]),)
    for file_name, expected in (
        ("raw_matches.h5", {pair: m.indices for pair, m in matches.items()}),
        ("matches.h5", dict(finished.inliers())),
    ):
        with h5py.File(tmp_path / "dim" / file_name, "r") as file:
            stored = {(a, b): file[a][b][()] for a in file for b in file[a]}
        assert len(stored) == len(expected)
        for (a, b), indices in expected.items():
            np.testing.assert_array_equal(stored[Path(a).name, Path(b).name], indices)


# --- npz ------------------------------------------------------------------------------------------------------------


def test_npz(run, matches, keypoints, tmp_path):
    export(run.work.output, "npz", tmp_path / "npz")
    for name in NAMES:
        stored = np.load(tmp_path / f"npz/features/{name}.npz")
        np.testing.assert_array_equal(stored["keypoints"], keypoints[name])
        assert stored["descriptors_oriented"].shape == (len(keypoints[name]), 64)
    stored = np.load(tmp_path / "npz/matches.npz")
    for row, (a, b) in enumerate(stored["names"]):
        part = slice(stored["offsets"][row], stored["offsets"][row + 1])
        np.testing.assert_array_equal(stored["indices"][part], matches[str(a), str(b)].indices)
    poses = np.load(tmp_path / "npz/poses.npz")
    assert poses["names"].tolist() == sorted(NAMES) and poses["cam_from_world"].shape == (5, 3, 4)
    assert poses["K"][0, 0, 0] == FOCAL


def test_npz_leaves_the_probe_out(tmp_path):
    """A run that chose upright frames holds oriented descriptors of some keypoints only: nothing for others."""
    from pipeline.files import features as files
    from pipeline.types import Features

    run = write_run(tmp_path, ("a.png", "b.png"), points=40)
    reconstruct_database(run)
    lafs = np.tile(np.array([[1, 0, 50], [0, 1, 50]], np.float32), (6, 1, 1))
    upright = np.ones((6, 64), np.float32)
    probe = np.concatenate([upright[:4], np.zeros((2, 64), np.float32)])
    both = Features(lafs, np.zeros(6, np.float32), {"upright": upright, "oriented": probe}, (WIDTH, HEIGHT))
    with files.appending(run.work.features, {}) as file:
        files.write(file, "b.png", both)
    export(run.work.output, "npz", tmp_path / "npz")
    assert set(np.load(tmp_path / "npz/features/b.png.npz")) == {
        "keypoints", "lafs", "scores", "image_size", "descriptors_upright"
    }  # fmt: skip


# --- nerfstudio -----------------------------------------------------------------------------------------------------


def ascii_ply(path: Path) -> np.ndarray:
    header, body = path.read_text().split("end_header\n")
    rows = np.array([[float(word) for word in line.split()] for line in body.splitlines()])
    assert f"element vertex {len(rows)}" in header
    return rows


def test_nerfstudio(run, keypoints, tmp_path):
    """Every point, projected by an OpenGL camera in nerfstudio's world, lands on the keypoints that see it."""
    import pycolmap

    export(run.work.output, "nerfstudio", tmp_path / "nerf")
    content = json.loads((tmp_path / "nerf/transforms.json").read_text())
    assert content["camera_model"] == "OPENCV"
    frames = {frame["file_path"]: frame for frame in content["frames"]}
    assert set(frames) == {f"images/{name}" for name in NAMES}
    points = ascii_ply(tmp_path / "nerf" / content["ply_file_path"])
    model = pycolmap.Reconstruction(run.work.sparse / "0")
    rows = {point_id: row for row, point_id in enumerate(model.points3D)}
    for image in model.images.values():
        frame = frames[f"images/{image.name}"]
        assert (tmp_path / "nerf" / frame["file_path"]).is_file()
        to_world = np.array(frame["transform_matrix"])
        assert np.isclose(np.linalg.det(to_world[:3, :3]), 1)
        seen = [(p.xy, points[rows[p.point3D_id], :3]) for p in image.points2D if p.has_point3D()]
        xy, xyz = (np.array(column) for column in zip(*seen, strict=True))
        camera = (xyz - to_world[:3, 3]) @ to_world[:3, :3]
        assert (camera[:, 2] < 0).all()  # OpenGL looks along -z
        x = frame["fl_x"] * camera[:, 0] / -camera[:, 2] + frame["cx"]
        y = -frame["fl_y"] * camera[:, 1] / -camera[:, 2] + frame["cy"]
        assert np.abs(np.stack([x, y], axis=1) - xy).max() < 4 and frame["w"] == WIDTH and frame["h"] == HEIGHT
    original = np.array([point.xyz for point in model.points3D.values()])
    applied = np.array(content["applied_transform"])
    np.testing.assert_allclose(points[:, :3], original @ applied[:, :3].T + applied[:, 3], atol=1e-4)


def test_nerfstudio_distortion_by_name():
    from datasets.cameras import Camera
    from pipeline.exports.nerfstudio import _intrinsics

    kind, values = _intrinsics(Camera("OPENCV", 640, 480, (500, 510, 320, 240, 0.1, 0.2, 0.3, 0.4)))
    assert kind == "OPENCV" and [values[k] for k in ("fl_x", "fl_y", "cx", "cy")] == [500, 510, 320, 240]
    assert [values[k] for k in ("k1", "k2", "p1", "p2")] == [0.1, 0.2, 0.3, 0.4]
    kind, values = _intrinsics(Camera("SIMPLE_RADIAL", 640, 480, (500, 320, 240, -0.1)))
    assert values["fl_y"] == 500 and values["k1"] == -0.1 and values["k2"] == 0
    assert _intrinsics(Camera("OPENCV_FISHEYE", 9, 9, (5, 5, 4, 4, 1, 2, 3, 4)))[0] == "OPENCV_FISHEYE"
    with pytest.raises(UserError, match="FULL_OPENCV"):
        _intrinsics(Camera("FULL_OPENCV", 9, 9, (5, 5, 4, 4, 0, 0, 0, 0, 0, 0, 0, 0)))


# --- Gaussian splatting ---------------------------------------------------------------------------------------------


def test_gaussian_splatting(run, tmp_path):
    import pycolmap

    export(run.work.output, "3dgs", tmp_path / "3dgs")
    model = pycolmap.Reconstruction(tmp_path / "3dgs/sparse/0")
    names = {name.replace("/", "_") for name in NAMES}
    assert {image.name for image in model.images.values()} == names
    for image in model.images.values():
        pixels = cv2.imread(str(tmp_path / "3dgs/images" / Path(image.name).name))
        camera = model.cameras[image.camera_id]
        assert camera.model.name == "PINHOLE" and pixels.shape[:2] == (camera.height, camera.width)
    assert model.num_points3D() > 100
    assert sorted(p.name for p in (tmp_path / "3dgs").iterdir()) == ["images", "sparse"]


def test_gaussian_splatting_takes_the_distortion_out(tmp_path):
    """Keypoints of the PINHOLE model are those of the run without their distortion."""
    import pycolmap

    run = reconstruct(write_run(tmp_path / "scene", ("a.png", "b.png", "c.png"), points=120))
    model = pycolmap.Reconstruction(run.work.sparse / "0")
    (camera_id,) = model.cameras
    model.cameras[camera_id].model = pycolmap.CameraModelId.SIMPLE_RADIAL
    model.cameras[camera_id].params = [FOCAL, WIDTH / 2 + 3.0, HEIGHT / 2 - 2.0, 0.08]
    model.write(run.work.sparse / "0")
    export(run.work.output, "3dgs", tmp_path / "3dgs")
    made = pycolmap.Reconstruction(tmp_path / "3dgs/sparse/0")
    theirs = {image.name: image for image in made.images.values()}
    for image in model.images.values():
        other = theirs[image.name]
        camera = made.cameras[other.camera_id]
        assert camera.model.name == "PINHOLE"
        np.testing.assert_allclose(other.cam_from_world().matrix(), image.cam_from_world().matrix(), atol=1e-9)
        stored, plain = (np.array([p.xy for p in i.points2D]) for i in (image, other))
        rays = np.c_[model.cameras[image.camera_id].cam_from_img(stored), np.ones(len(stored))]
        np.testing.assert_allclose(camera.img_from_cam(rays), plain, atol=1e-2)
        assert np.abs(plain - stored).max() > 0.5
        assert cv2.imread(str(tmp_path / "3dgs/images" / other.name)).shape[:2] == (camera.height, camera.width)


# --- the command ----------------------------------------------------------------------------------------------------


def test_command(run, tmp_path, capsys):
    assert main([str(run.work.output), "--to", "npz", "--output", str(tmp_path / "out")]) == 0
    assert "matches.npz" in capsys.readouterr().out
    assert main([str(run.work.output), "--to", "npz", "--output", str(tmp_path / "out")]) == 2
    assert "not empty" in capsys.readouterr().err
    assert main([str(tmp_path / "nowhere"), "--to", "npz"]) == 2
    assert "holds no features.h5" in capsys.readouterr().err
    assert not (tmp_path / "nowhere").exists()


def test_photographs_that_were_moved(run, tmp_path):
    with pytest.raises(UserError, match=r"photograph 0001\.png is not there.*--images"):
        export(run.work.output, "nerfstudio", tmp_path / "out", images=tmp_path)
