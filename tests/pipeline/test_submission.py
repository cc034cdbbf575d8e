"""Submissions: every photograph once, in the layout that the challenge's own tables have."""

import json

import numpy as np
import pytest

from datasets.cameras import Camera, Pose
from datasets.scenes.colmap_model import write_model
from datasets.scenes.kaggle import read_labels
from desdis.errors import UserError
from pipeline.metrics.kaggle import score_2025
from pipeline.submission import Row, clusters, main, write_2022, write_2023, write_2025

CENTRES = np.array([(0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1), (1, 1, 1)], float)
POSES = {f"{k}.png": Pose(np.eye(3), -c) for k, c in enumerate(CENTRES)}


def test_clusters_by_models_and_components():
    models = [{"a": POSES["0.png"], "b": POSES["1.png"]}, {"c": POSES["2.png"]}]
    components = [["a", "b", "c", "d"], ["e", "f"]]
    placed = clusters("abcdefg", models, components)
    assert placed["a"] == ("cluster0", POSES["0.png"]) and placed["c"][0] == "cluster1"
    assert placed["d"] == ("cluster0", None)
    assert placed["e"] == placed["f"] == ("cluster3", None)
    assert placed["g"] == ("outliers", None)


@pytest.fixture
def finished(tmp_path):
    """Photographs: five in one model, one unregistered in its component, one alone, one unreadable."""
    out = tmp_path / "run"
    (out / "sparse" / "0").mkdir(parents=True)
    camera = Camera("SIMPLE_PINHOLE", 64, 48, (60.0, 32.0, 24.0))
    write_model(out / "sparse" / "0", POSES, dict.fromkeys(POSES, camera))
    names = [*POSES, "near.png", "alone.png"]
    report = {
        "images": {
            "keypoints": dict.fromkeys(names, 9),
            "skipped": [{"name": n, "reason": "-"} for n in ("bad.png", "x.txt")],
        },
        "models": [{"path": "sparse/0"}],
        "view_graph": {"components": [[*POSES, "near.png"]]},
    }
    (out / "report.json").write_text(json.dumps(report))
    return out


def test_2025_reads_back_and_scores_one(finished, tmp_path):
    path = tmp_path / "submission.csv"
    assert main(["--year", "2025", "--output", str(path), f"toys={finished}"]) == 0
    labels = {label.image: label for label in read_labels(path, allow_missing=True)}
    assert len(labels) == 8
    assert labels["near.png"].scene == "cluster0" and labels["near.png"].pose is None
    assert labels["alone.png"].scene == labels["bad.png"].scene == "outliers"
    found: dict[str, dict[str, np.ndarray]] = {}
    for name, label in labels.items():
        centre = np.full(3, np.nan) if label.pose is None else label.pose.centre
        found.setdefault(label.scene, {})[name] = centre
    truth = {name: 3 * pose.centre for name, pose in POSES.items()}
    score = score_2025({"s": truth}, found, {"s": np.array([0.1, 0.2, 0.3, 0.4])})
    assert score.maa == 1 and score.clustering == pytest.approx(5 / 6)


def test_2023_has_a_pose_for_every_photograph(finished, tmp_path):
    path = tmp_path / "submission.csv"
    assert main(["--year", "2023", "--output", str(path), f"haiper/bike={finished}"]) == 0
    labels = read_labels(path)
    assert {label.scene for label in labels} == {"bike"} and len(labels) == 8
    by_name = {label.image: label for label in labels}
    blank = by_name["haiper/bike/images/alone.png"].pose
    assert blank is not None and np.array_equal(blank.R, np.eye(3)) and not blank.t.any()
    np.testing.assert_allclose(by_name["haiper/bike/images/1.png"].pose.centre, (1, 0, 0), atol=1e-6)  # type: ignore[union-attr]


def test_2022(tmp_path):
    path = tmp_path / "submission.csv"
    write_2022(path, {"a;b;1-2": np.arange(9.0).reshape(3, 3), "a;b;1-3": None})
    header, first, second = path.read_text().splitlines()
    assert header == "sample_id,fundamental_matrix"
    assert np.fromstring(first.split(",")[1], sep=" ").tolist() == list(range(9))
    assert first.startswith("a;b;1-2,") and set(second.split(",")[1].split()) == {"0.000000000e+00"}
    with pytest.raises(ValueError, match="finite"):
        write_2022(path, {"x": np.full((3, 3), np.nan)})


def test_image_ids_and_repeats(tmp_path):
    path = tmp_path / "submission.csv"
    row = Row("d", "outliers", "i.png", None)
    write_2025(path, [row], ids={("d", "i.png"): "d_i_public"})
    assert path.read_text().splitlines()[1].startswith("d_i_public,d,outliers,i.png,nan;nan;")
    with pytest.raises(UserError, match="twice"):
        write_2023(path, [row, row])


def test_mistakes_end_with_status_2(tmp_path, capsys):
    assert main(["--year", "2025", "a/b=x"]) == 2
    assert main(["--year", "2023", "a=x"]) == 2
    assert main(["--year", "2025", f"a={tmp_path}"]) == 2
    assert "report.json" in capsys.readouterr().err
