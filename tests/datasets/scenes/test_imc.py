"""Scenes of the Image Matching Challenge 2020 and 2021."""

from pathlib import Path

import h5py
import numpy as np
import pytest

from datasets.scenes.imc import Scene, pair_key, read_calibration, read_calibration_file, split_key
from desdis.errors import UserError

NAMES = ["b_2", "a-1", "c", "a"]


def calibration(path: Path, **changed) -> Path:
    """A calibration file; changed datasets by name, None leaves one out."""
    arrays = {"K": np.array([[500.0, 0, 320], [0, 500, 240], [0, 0, 1]]), "R": np.eye(3), "T": np.array([[1.0, 2, 3]])}
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        for key, value in {**arrays, **changed}.items():
            if isinstance(value, str):
                file.create_group(key)
            elif value is not None:
                file[key] = value
    return path


@pytest.fixture
def scene(tmp_path) -> Scene:
    root = tmp_path / "set_100"
    for number, name in enumerate(NAMES):
        calibration(root / "calibration" / f"calibration_{name}.h5", T=np.array([float(number), 0, 0]))
        (root / "visibility").mkdir(exist_ok=True)
        row = [0] * len(NAMES)
        row[number + 1 :] = [100 + number * 10 + j for j in range(number + 1, len(NAMES))]
        (root / "visibility" / f"{name}.txt").write_text("\n".join(map(str, row)) + "\n")
    (root / "images.txt").write_text("".join(f"images/{name}.jpg\n" for name in NAMES))
    (root / "calibration.txt").write_text("".join(f"calibration/calibration_{name}.h5\n" for name in NAMES))
    (root / "visibility.txt").write_text("".join(f"visibility/{name}.txt\n" for name in NAMES))
    (root / "new-vis-pairs").mkdir()
    np.save(root / "new-vis-pairs" / "keys-th-0.1.npy", np.array(["b_2-a-1", "c-a", "a-1-a"]))
    (root / "sub_set").mkdir()
    (root / "sub_set" / "3bag_001.txt").write_text("images/c.jpg\nimages/a.jpg\nimages/b_2.jpg\n")
    (root / "sub_set" / "3bag_000.txt").write_text("images/a-1.jpg\nimages/a.jpg\nimages/c.jpg\n")
    return Scene(root)


def test_scene(scene):
    assert scene.names == NAMES
    assert scene.images[1] == scene.root / "images" / "a-1.jpg"
    np.testing.assert_allclose(scene.calibration.poses["c"].t, [2, 0, 0])
    assert scene.calibration.cameras["c"].params == (500, 500, 320, 240)  # counts from the corner: nothing is added
    assert scene.visibility.shape == (4, 4)
    assert scene.visibility[0, 3] == 103
    assert scene.visible_pairs(110) == [("c", "a-1"), ("a-1", "a"), ("c", "a")]
    assert scene.pairs(0.1) == [("b_2", "a-1"), ("c", "a"), ("a-1", "a")]
    assert scene.bags(3) == [["a-1", "a", "c"], ["c", "a", "b_2"]]


def test_keys_have_the_larger_name_first():
    assert pair_key("a", "b") == pair_key("b", "a") == "b-a"
    with pytest.raises(UserError, match="the larger name comes first"):
        split_key("a-b", {"a", "b"}, "list")
    with pytest.raises(UserError, match="is not a pair"):
        split_key("x-y", {"a", "b"}, "list")


def test_scene_errors_name_the_file(scene):
    with pytest.raises(UserError, match=r"keys-th-0\.9\.npy"):
        scene.pairs(0.9)
    with pytest.raises(UserError, match="no bag of size 5"):
        scene.bags(5)
    (scene.root / "sub_set" / "3bag_001.txt").write_text("images/c.jpg\nimages/a.jpg\nimages/other.jpg\n")
    with pytest.raises(UserError, match="3bag_001"):
        scene.bags(3)
    (scene.root / "visibility" / "c.txt").write_text("1 2\n")
    with pytest.raises(UserError, match="2 numbers for 4 images"):
        _ = scene.visibility
    lines = (scene.root / "calibration.txt").read_text().splitlines()
    (scene.root / "calibration.txt").write_text("\n".join(reversed(lines)))
    with pytest.raises(UserError, match="stands where b_2 is expected"):
        _ = scene.calibration


@pytest.mark.parametrize("below", ["", "calibration", "set_100"])
def test_calibration_by_photograph(scene, below):
    folder = {"": scene.root, "calibration": scene.root / "calibration", "set_100": scene.root.parent}[below]
    reference = read_calibration(folder, ["a-1.jpg", "c.jpg", "new.jpg"])
    assert set(reference.poses) == {"a-1.jpg", "c.jpg"}
    assert reference.cameras["c.jpg"].width == 0
    with pytest.raises(UserError, match="belongs to other photographs"):
        read_calibration(folder, ["new.jpg"])


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"R": None}, "the dataset R is missing"),
        ({"K": "group"}, "K is an empty group"),
        ({"T": np.zeros(2)}, r"T has shape \(2,\)"),
        ({"T": np.array([np.nan, 0, 0])}, "NaN"),
        ({"R": 2 * np.eye(3)}, "not orthonormal"),
        ({"R": np.diag([1.0, 1, -1])}, "mirroring"),
        ({"K": np.zeros((3, 3))}, "not a calibration matrix"),
    ],
)
def test_calibration_files_that_are_refused(tmp_path, changed, message):
    path = calibration(tmp_path / "calibration_a.h5", **changed)
    with pytest.raises(UserError, match=message) as error:
        read_calibration_file(path)
    assert str(path) in str(error.value)


def test_a_file_that_is_no_hdf5(tmp_path):
    (tmp_path / "calibration_a.h5").write_bytes(b"not HDF5")
    with pytest.raises(UserError, match=r"calibration_a\.h5: not a readable HDF5 file"):
        read_calibration_file(tmp_path / "calibration_a.h5")
