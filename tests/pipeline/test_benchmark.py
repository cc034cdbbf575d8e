"""The benchmark command on a small render: whole, resumed, with methods that fail, and with mistakes."""

import json
from pathlib import Path

import pytest
import yaml

from datasets.scenes.rendered import render_scene
from pipeline.benchmark import main
from pipeline.metrics.eth import COLUMNS


@pytest.fixture(scope="module")
def scene(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("scene")
    render_scene(folder, n_images=4, size=(320, 240), arc=20.0)
    return folder


def config(path: Path, scene: Path, **changes) -> Path:
    values = {
        "title": "Small",
        "seeds": [0],
        "baseline": "rootsift",
        "recipe": {"detector": {"max_keypoints": 800}, "orientation": "upright", "threads": 1, "device": "cpu"},
        "scenes": [
            {
                "name": "render",
                "images": f"{scene}/images",
                "reference": f"{scene}/cameras",
                "cameras": f"{scene}/cameras",
                "stereo": True,
            }
        ],
        "methods": [
            {"name": "rootsift", "recipe": {"descriptor": {"name": "rootsift"}}},
            {"name": "broken", "recipe": {"descriptor": {"name": "desdis", "weights": "no-such-name"}}},
            {"name": "absent", "recipe": {"descriptor": {"name": "tfeat", "weights": "{weights}/no.pth"}}},
        ],
    }
    path.write_text(yaml.safe_dump(values | changes))
    return path


def eth_row(run: Path) -> dict:
    """The local-feature-evaluation row counted once more, from the model and the database on disk."""
    import pycolmap

    model = pycolmap.Reconstruction(run / "sparse" / "0")
    tracks = [point.track.length() for point in model.points3D.values()]
    errors = [point.error for point in model.points3D.values()]
    with pycolmap.Database.open(run / "database.db") as database:
        inliers = [len(g.inlier_matches) for g in database.read_two_view_geometries()[1]]
    accuracy = json.loads((run / "report.json").read_text())["accuracy"]
    registered = model.num_reg_images()
    counted = [4, registered, len(tracks), sum(tracks)]
    means = [sum(tracks) / len(tracks), sum(tracks) / registered]
    error = pytest.approx(sum(errors) / len(errors))  # of points, as COLMAP's model_analyzer prints it
    pose = [accuracy["centre_mean"], accuracy["centre_median"]]
    verified = [sum(n > 0 for n in inliers), sum(inliers)]
    values = ["render", "rootsift", *counted, *map(pytest.approx, means), error, None, None, None, *pose, *verified]
    return dict(zip(COLUMNS, values, strict=True))


def test_whole_run_and_resume(scene, tmp_path, capsys):
    out, path = tmp_path / "out", config(tmp_path / "b.yaml", scene, eth=True)
    arguments = ["--config", str(path), "--output", str(out)]
    assert main(arguments) == 0
    text = capsys.readouterr().out
    assert "Small" in (out / "benchmark.html").read_text()
    result = json.loads((out / "results.json").read_text())
    (rendered,) = result["scenes"]
    good, broken = rendered["rows"]
    assert good["scores"]["maa_10"]["mean"] > 0.8 and good["scores"]["registered"]["mean"] == 1
    assert good["scores"]["stereo_maa_10"]["mean"] > 0.5
    assert {"extract", "match", "verify", "reconstruct", "stereo"} <= set(good["costs"]["stages"])
    assert good["costs"]["peak_memory_mib"] > 50
    assert len(broken["failures"]) == 1 and broken["scores"]["maa_10"]["mean"] == 0
    reason = "there is no ../shared/weights/no.pth"
    assert result["left_out"] == [{"what": "method", "name": "absent", "reason": reason}]
    assert "| rootsift | **" in text and "1 of 1" in text

    assert result["eth"][0] == eth_row(out / "runs" / "render" / "rootsift")
    assert result["eth"][1]["# Reg. Images"] == 0

    stamps = {p: p.stat().st_mtime_ns for p in out.glob("cells/*/*/*.json")}
    assert len(stamps) == 2
    assert main(arguments) == 0
    assert {p: p.stat().st_mtime_ns for p in stamps} == stamps


def test_a_cell_that_takes_too_long_is_a_failure(scene, tmp_path):
    path = config(tmp_path / "b.yaml", scene, timeout_minutes=0.0001)
    assert main(["--config", str(path), "--output", str(tmp_path / "out"), "--methods", "rootsift"]) == 0
    cell = json.loads((tmp_path / "out/cells/render/rootsift/seed-0.json").read_text())
    assert cell["status"] == "failed" and "stopped after" in cell["error"]


def test_mistakes_end_with_status_2(scene, tmp_path, capsys):
    assert main(["--config", str(tmp_path / "no.yaml")]) == 2
    path = config(tmp_path / "b.yaml", scene)
    assert main(["--config", str(path), "--output", str(tmp_path / "o"), "--scenes", "x"]) == 2
    assert "the benchmark has render" in capsys.readouterr().err
    path = config(tmp_path / "c.yaml", tmp_path / "nowhere")
    assert main(["--config", str(path), "--output", str(tmp_path / "o")]) == 2
    assert "nothing can be run" in capsys.readouterr().err


def test_a_scene_without_its_reference_is_left_out_by_name(scene, tmp_path, capsys):
    scenes = [{"name": name, "images": f"{scene}/images"} for name in ("here", "judged")]
    scenes[1]["reference"] = str(tmp_path / "model")
    path = config(tmp_path / "b.yaml", scene, scenes=scenes, baseline=None)
    words = ["--config", str(path), "--output", str(tmp_path / "out"), "--methods", "absent"]
    assert main(words) == 0
    left_out = json.loads((tmp_path / "out/results.json").read_text())["left_out"]
    assert {"what": "scene", "name": "judged", "reason": f"there is no {tmp_path / 'model'}"} in left_out
    assert "judged" in capsys.readouterr().out
