"""Whatever format poses and cameras come in, they are recognised, and agree."""

from pathlib import Path

import h5py
import numpy as np
import pytest

from datasets.cameras import Camera, Pose
from datasets.scenes.colmap_model import write_model
from datasets.scenes.entries import owners
from datasets.scenes.krt import format_krt
from datasets.scenes.reference import read_cameras, read_reference
from datasets.scenes.strecha import format_camera
from desdis.errors import UserError

CAMERA = Camera.pinhole(np.array([[500, 0, 320], [0, 510, 240], [0, 0, 1]]), 640, 480)
TURNED = np.array([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]])
POSES = {f"{i}.jpg": Pose(TURNED if i % 2 else np.eye(3), np.array([i, 2.0, 3.0])) for i in range(3)}
NAMES = list(POSES)


def write_as(kind: str, folder: Path, poses: dict[str, Pose] = POSES) -> Path:
    """The same three poses (or others) in a format; returns what the user would give."""
    folder.mkdir(parents=True, exist_ok=True)
    cameras = dict.fromkeys(poses, CAMERA)
    if kind == "strecha":
        for name, pose in poses.items():
            (folder / f"{name}.camera").write_text(format_camera(pose, CAMERA))
        (folder / "K.txt").write_text("1 0 0\n0 1 0\n0 0 1\n")  # lies there in the original sets, and says less
    elif kind == "krt":
        for name, pose in poses.items():
            (folder / f"{Path(name).stem}.txt").write_text(format_krt(pose, CAMERA))
    elif kind == "imc":
        for name, pose in poses.items():
            with h5py.File(folder / f"calibration_{Path(name).stem}.h5", "w") as file:
                file["K"], file["R"], file["T"] = CAMERA.K, pose.R, pose.t
    elif kind in ("colmap binary", "colmap text"):
        write_model(folder, poses, cameras, text=kind == "colmap text")
    elif kind == "kaggle 2022":
        rows = [
            ",".join([Path(name).stem, *(" ".join(map(str, np.ravel(a))) for a in (CAMERA.K, pose.R, pose.t))])
            for name, pose in poses.items()
        ]
        header = "image_id,camera_intrinsics,rotation_matrix,translation_vector"
        (folder / "calibration.csv").write_text("\n".join([header, *rows]))
    elif kind == "kaggle 2025":
        rows = [
            ",".join(["d", "s", name, *(";".join(map(str, np.ravel(a))) for a in (pose.R, pose.t))])
            for name, pose in poses.items()
        ]
        header = "dataset,scene,image,rotation_matrix,translation_vector"
        (folder / "train_labels.csv").write_text("\n".join([header, *rows]))
    return folder


KINDS = ["strecha", "krt", "imc", "colmap binary", "colmap text", "kaggle 2022", "kaggle 2025"]


@pytest.mark.parametrize("kind", KINDS)
def test_every_format_is_recognised_and_agrees(tmp_path, kind):
    path = write_as(kind, tmp_path / "given")
    reference = read_reference(path, NAMES)
    assert set(reference.poses) == set(POSES)
    assert kind.startswith(reference.format)
    for name, pose in POSES.items():
        np.testing.assert_allclose(reference.poses[name].R, pose.R, atol=1e-9)
        np.testing.assert_allclose(reference.poses[name].t, pose.t, atol=1e-9)
    if kind == "kaggle 2025":
        with pytest.raises(UserError, match="poses but no intrinsics"):
            read_cameras(path, NAMES)
    else:
        for camera in read_cameras(path, NAMES).values():
            np.testing.assert_allclose(camera.params, CAMERA.params)
            assert camera.known and camera.width in (640, 0)
    with pytest.raises(UserError, match="belongs to other photographs") as error:
        read_reference(path, ["other.jpg"])
    assert str(path) in str(error.value)


SPOILED = {
    "NaN": (Pose(np.full((3, 3), np.nan), np.zeros(3)), "NaN"),
    "infinite": (Pose(np.eye(3), np.array([0, np.inf, 0])), "NaN or infinite"),
    "not orthonormal": (Pose(1.1 * np.eye(3), np.zeros(3)), "not orthonormal"),
    "mirroring": (Pose(np.diag([1.0, 1, -1]), np.zeros(3)), "mirroring"),
}


@pytest.mark.parametrize("case", SPOILED)
@pytest.mark.parametrize("kind", [kind for kind in KINDS if not kind.startswith("colmap")])
def test_a_spoiled_pose_is_named_by_file_and_entry(tmp_path, kind, case):
    pose, words = SPOILED[case]
    path = write_as(kind, tmp_path / "given", POSES | {"1.jpg": pose})
    with pytest.raises(UserError, match=words) as error:
        read_reference(path, NAMES)
    message = str(error.value)
    file = {"kaggle 2022": "calibration.csv, line 3, 1", "kaggle 2025": "train_labels.csv, line 3, 1.jpg"}.get(kind)
    assert str(path) in message and (file or "1.") in message


@pytest.mark.parametrize(("quaternion", "words"), [("nan 0 0 0", "NaN"), ("0 0 0 0", "no rotation")])
def test_a_spoiled_quaternion_of_a_colmap_model_is_named(tmp_path, quaternion, words):
    (tmp_path / "cameras.txt").write_text("1 PINHOLE 640 480 500 510 320 240\n")
    (tmp_path / "images.txt").write_text(f"1 {quaternion} 0 0 0 1 a.jpg\n\n2 1 0 0 0 0 0 0 1 b.jpg\n\n")
    (tmp_path / "points3D.txt").write_text("")
    with pytest.raises(UserError, match=f"image a.jpg: .*{words}") as error:
        read_reference(tmp_path, ["a.jpg", "b.jpg"])
    assert str(tmp_path) in str(error.value)


@pytest.mark.parametrize("kind", KINDS)
def test_a_scenes_folder_serves_as_well(tmp_path, kind):
    below = {"strecha": "gt_dense_cameras", "imc": "set_100/calibration"}.get(kind, "cameras")
    below = "sparse/0" if kind.startswith("colmap") else below
    write_as(kind, tmp_path / below)
    (tmp_path / "images").mkdir()
    assert len(read_reference(tmp_path, NAMES).poses) == 3


@pytest.mark.parametrize("file", ["cameras.txt", "images.txt"])
def test_a_models_file_stands_for_the_model(tmp_path, file):
    write_as("colmap text", tmp_path)
    assert set(read_reference(tmp_path / file, NAMES).poses) == set(POSES)


def test_intrinsics_alone(tmp_path):
    (tmp_path / "K.txt").write_text("500 0 319.5\n0 510 239.5\n0 0 1\n")
    for path in (tmp_path / "K.txt", tmp_path):
        np.testing.assert_allclose(read_cameras(path, ["a.jpg"])["a.jpg"].params, CAMERA.params)
        with pytest.raises(UserError, match="holds intrinsics only"):
            read_reference(path, ["a.jpg"])
    (tmp_path / "cameras.txt").write_text("1 PINHOLE 640 480 500 510 320 240\n")
    assert read_cameras(tmp_path / "cameras.txt", ["a.jpg"]) == {"a.jpg": CAMERA}
    with (tmp_path / "cameras.txt").open("a") as file:
        file.write("2 PINHOLE 640 480 501 510 320 240\n")
    with pytest.raises(UserError, match=r"2 cameras and no images\.txt"):
        read_cameras(tmp_path / "cameras.txt", ["a.jpg"])


def test_what_is_not_recognised(tmp_path):
    for path, message in (
        (tmp_path / "none", "no such file or folder"),
        (tmp_path, "no poses or cameras found"),
    ):
        with pytest.raises(UserError, match=message):
            read_reference(path, NAMES)
    (tmp_path / "a.xyz").write_text("1")
    with pytest.raises(UserError, match="no known format"):
        read_reference(tmp_path / "a.xyz", NAMES)
    (tmp_path / "0.jpg.camera").write_text("1")
    with pytest.raises(UserError, match="give the folder that holds it"):
        read_reference(tmp_path / "0.jpg.camera", NAMES)
    (tmp_path / "0.jpg.camera").unlink()
    write_as("kaggle 2022", tmp_path)
    write_as("kaggle 2025", tmp_path)
    with pytest.raises(UserError, match="both hold poses"):
        read_reference(tmp_path, NAMES)


def test_owners_go_by_the_end_of_the_path():
    entries = ["set/a/1.jpg", "set/b/1.jpg", "set/b/2"]
    assert owners(entries, ["b/1.jpg", "a/1.jpg", "b/2.png", "c/3.jpg"], "file") == {
        "b/1.jpg": "set/b/1.jpg",
        "a/1.jpg": "set/a/1.jpg",
        "b/2.png": "set/b/2",
    }
    with pytest.raises(UserError, match=r"set/a/1.jpg and set/b/1.jpg both fit the photograph 1.jpg"):
        owners(entries, ["1.jpg"], "file")
    with pytest.raises(UserError, match=r"1 fits two photographs, a/1.jpg and b/1.jpg"):
        owners(["1"], ["a/1.jpg", "b/1.jpg"], "file")
    assert owners(["1.jpg"], ["1.png", "1.jpg"], "file") == {"1.jpg": "1.jpg"}
    assert owners(["a.b_2", "a.b"], ["a.b.jpg", "a.b_2.jpg"], "file") == {"a.b.jpg": "a.b", "a.b_2.jpg": "a.b_2"}


SHARED = Path(__file__).resolve().parents[4] / "shared" / "data" / "eval"


@pytest.mark.skipif(not SHARED.is_dir(), reason="the photograph sets are not beside the repository")
@pytest.mark.parametrize(
    ("scene", "count", "K"),
    [
        ("strecha/fountain-P11", 11, (1379.74, 1382.08, 760.595, 503.655)),
        ("lund_door", 12, (1267.524074, 1266.222633, 332.3333502, 493.4252837)),
        ("reichstag", 10, None),
    ],
)
def test_photograph_sets(scene, count, K):
    names = sorted(path.name for path in (SHARED / scene / "images").iterdir())
    reference = read_reference(SHARED / scene, names)
    assert len(reference.poses) == len(reference.cameras) == count == len(names)
    if K:
        np.testing.assert_allclose(reference.cameras[names[0]].params, K)
