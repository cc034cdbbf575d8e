"""Tables of Kaggle's challenges, 2022 to 2025."""

from pathlib import Path

import numpy as np
import pytest

from datasets.scenes import kaggle
from desdis.errors import UserError

EYE = "1 0 0 0 1 0 0 0 1"
TURNED = "0 -1 0 1 0 0 0 0 1"
K = "500 0 320 0 510 240 0 0 1"


def table(path: Path, header: str, *rows: str) -> Path:
    path.write_text("\n".join([header, *rows]) + "\n")
    return path


def semicolons(text: str) -> str:
    return text.replace(" ", ";")


HEADER_22 = "image_id,camera_intrinsics,rotation_matrix,translation_vector"


def test_2022(tmp_path):
    path = table(tmp_path / "calibration.csv", HEADER_22, f"a_1,{K},{EYE},1 2 3", f"b,{K},{TURNED},0 0 1")
    assert kaggle.year_of(path) == 2022
    reference = kaggle.read_reference(path, ["x/b.jpg", "x/a_1.jpg"])
    np.testing.assert_allclose(reference.poses["x/a_1.jpg"].t, [1, 2, 3])
    np.testing.assert_allclose(reference.poses["x/b.jpg"].R[0], [0, -1, 0])
    assert reference.cameras["x/b.jpg"].params == (500, 510, 320, 240)
    pairs = table(tmp_path / "p.csv", "pair,covisibility,fundamental_matrix", f"b-a_1,0.25,{TURNED}")
    pair = kaggle.read_covisibility(pairs)[0]
    assert (pair.image_1, pair.image_2, pair.covisibility) == ("b", "a_1", 0.25)
    np.testing.assert_array_equal(pair.F[0], [0, -1, 0])
    factors = table(tmp_path / "s.csv", "scene,scaling_factor", "brandenburg_gate,46.53")
    assert kaggle.read_scaling_factors(factors) == {"brandenburg_gate": 46.53}
    test = table(tmp_path / "test.csv", "sample_id,batch_id,image_1_id,image_2_id", "g;1;a-b,1,a,b")
    assert kaggle.read_test_pairs(test) == {"g;1;a-b": ("1", "a", "b")}


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (f"a,{K},{EYE},1 2 3", "line 3: a is there twice"),
        (f"b,{K},{EYE},1 2", "line 3, translation_vector: 2 numbers, 3 expected"),
        (f"b,{K},{EYE},1 2 three", "line 3, translation_vector: not numbers"),
        (f"b,{K},{EYE},nan nan nan", "line 3, b: the pose holds NaN"),
        (f"b,{K},{EYE.replace('1', '2')},1 2 3", "line 3, b: the rotation is not orthonormal"),
        (f"b,{K}", "line 3: the row is too short"),
    ],
)
def test_2022_refuses(tmp_path, row, message):
    path = table(tmp_path / "calibration.csv", HEADER_22, f"a,{K},{EYE},1 2 3", row)
    with pytest.raises(UserError, match=message):
        kaggle.read_calibration(path)


def rows_of(scenes: dict[tuple[str, str], list[str]], R: str = EYE) -> list[str]:
    """Rows dataset,scene,image; the translation counts the rows of all."""
    rows = [(d, s, image) for (d, s), images in scenes.items() for image in images]
    return [f"{d},{s},{image},{semicolons(R)},{i};0;0" for i, (d, s, image) in enumerate(rows)]


@pytest.mark.parametrize(
    ("year", "column", "image"),
    [(2023, "image_path", "{d}/{s}/images/{i}.png"), (2024, "image_name", "{i}.png"), (2025, "image", "{s}_{i}.png")],
)
def test_tables_of_many_scenes(tmp_path, year, column, image):
    scenes = {
        (d, s): [image.format(d=d, s=s, i=i) for i in (range(5) if s == "bike" else range(2, 9))]
        for d, s in (("haiper", "bike"), ("urban", "kyiv"))
    }
    path = table(
        tmp_path / "train_labels.csv",
        f"dataset,scene,{column},rotation_matrix,translation_vector",
        *rows_of(scenes),
    )
    assert kaggle.year_of(path) == year
    assert len(kaggle.read_labels(path)) == 12
    # The folder of images of "kyiv" holds these names; some of them are in the other scene as well.
    names = [image.format(d="urban", s="kyiv", i=i).removeprefix("urban/kyiv/images/") for i in range(2, 9)]
    reference = kaggle.read_reference(path, names)
    assert len(reference.poses) == 7
    np.testing.assert_allclose([reference.poses[name].t[0] for name in names], np.arange(5, 12))
    if year == 2024:
        with pytest.raises(UserError, match="fit haiper/bike and urban/kyiv equally well"):
            kaggle.read_reference(path, ["3.png"])
    with pytest.raises(UserError, match="belongs to other photographs"):
        kaggle.read_reference(path, ["other.png"])


HEADER_25 = "dataset,scene,image,rotation_matrix,translation_vector"
NAN = "nan;nan;nan;nan;nan;nan;nan;nan;nan,nan;nan;nan"


def test_2025_outliers_have_no_pose(tmp_path):
    path = table(tmp_path / "l.csv", HEADER_25, f"d,s,a.png,{semicolons(EYE)},1;2;3", f"d,outliers,b.png,{NAN}")
    labels = kaggle.read_labels(path)
    assert labels[1] == kaggle.Label("d", "outliers", "b.png", None)
    assert set(kaggle.read_reference(path, ["a.png", "b.png"]).poses) == {"a.png"}
    path = table(tmp_path / "l.csv", HEADER_25, f"d,s,a.png,{NAN}")
    assert kaggle.read_labels(path, allow_missing=True)[0].pose is None
    with pytest.raises(UserError, match=r"line 2, a\.png: the pose holds NaN"):
        kaggle.read_labels(path)


def test_labels_refuse(tmp_path):
    row = f"d,s,a.png,{semicolons(EYE)},1;2;3"
    with pytest.raises(UserError, match=r"line 3: a\.png of d is there twice"):
        kaggle.read_labels(table(tmp_path / "l.csv", HEADER_25, row, row))
    with pytest.raises(UserError, match="the column scene is missing"):
        kaggle.read_labels(table(tmp_path / "l.csv", HEADER_25.replace("scene,", ""), row))
    with pytest.raises(UserError, match="no column image"):
        kaggle.read_labels(table(tmp_path / "l.csv", "dataset,scene", "d,s"))
    with pytest.raises(UserError, match="no table with poses"):
        kaggle.read_reference(table(tmp_path / "l.csv", "a,b", "1,2"), ["a.png"])


def test_thresholds_and_categories(tmp_path):
    path = table(tmp_path / "t.csv", "dataset,scene,thresholds", "d,s,0.025;0.05;0.1")
    np.testing.assert_allclose(kaggle.read_thresholds(path)["d", "s"], [0.025, 0.05, 0.1])
    path = table(tmp_path / "c.csv", "scene,categories", "lizard,transparent;symmetries-and-repeats")
    assert kaggle.read_categories(path) == {"lizard": ("transparent", "symmetries-and-repeats")}
