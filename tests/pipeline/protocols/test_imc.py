"""The Image Matching Challenge's protocol on a render laid out as its scenes are, and the tuning command."""

import json
from pathlib import Path

import h5py
import numpy as np
import pytest
import yaml

from datasets.scenes.imc import pair_key
from datasets.scenes.rendered import render_scene
from desdis.errors import UserError
from pipeline.protocols.imc import _check_category, match_scene, pose_from_matches, score_scene
from pipeline.protocols.recipe import ImcOptions
from pipeline.recipe import Recipe
from pipeline.tune import main as tune

RECIPE = {
    "detector": {"max_keypoints": 2048},
    "descriptor": {"name": "rootsift"},
    "orientation": "upright",
    "mapper": {"attempts": 1},
    "threads": 1,
    "device": "cpu",
}


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    """A scene of five images in the challenge's layout."""
    root = tmp_path_factory.mktemp("imc") / "phototourism" / "reichstag" / "set_100"
    reference = render_scene(root, n_images=5, size=(256, 192), arc=24.0)
    names = sorted(reference.poses)
    stems = [Path(name).stem for name in names]
    for folder in ("calibration", "visibility", "new-vis-pairs", "sub_set"):
        (root / folder).mkdir()
    for name, stem in zip(names, stems, strict=True):
        with h5py.File(root / "calibration" / f"calibration_{stem}.h5", "w") as file:
            file["K"], file["R"] = reference.cameras[name].K, reference.poses[name].R
            file["T"] = reference.poses[name].t
        (root / "visibility" / f"{stem}.txt").write_text("\n".join(["500"] * 5))
    (root / "images.txt").write_text("\n".join(f"images/{name}" for name in names))
    (root / "calibration.txt").write_text("\n".join(f"calibration/calibration_{s}.h5" for s in stems))
    (root / "visibility.txt").write_text("\n".join(f"visibility/{s}.txt" for s in stems))
    keys = [pair_key(a, b) for i, a in enumerate(stems) for b in stems[:i]]
    for k in range(10):
        np.save(root / "new-vis-pairs" / f"keys-th-{k / 10:.1f}.npy", np.array(keys if k < 2 else keys[:3]))
    (root / "sub_set" / "5bag_000.txt").write_text("\n".join(f"images/{name}" for name in names))
    return root


def test_both_tasks_and_the_final_score(root, tmp_path):
    result = score_scene(root, Recipe.model_validate(RECIPE), ImcOptions(bags=(5,)), tmp_path / "run", seed=0)
    scores = result["scores"]
    assert scores["stereo_maa_10"] > 0.5 and len(result["stereo_pairs"]) == 10
    assert scores["bags_success_rate"] == 1 and scores["bags_registered_ratio"] == 1
    assert scores["bags_maa_10"] > 0.4 and scores["bags_points3D"] > 50
    assert scores["imc_score"] == pytest.approx((scores["stereo_maa_10"] + scores["bags_maa_10"]) / 2)
    assert scores["bag5_maa_10"] == scores["bags_maa_10"]
    assert {"stereo", "bags"} == set(result["stages"])
    json.dumps(result, allow_nan=False)


def test_the_categories_are_enforced(root, tmp_path):
    recipe = Recipe.model_validate(RECIPE | {"detector": {"max_keypoints": 1000}})
    with pytest.raises(UserError, match="2048 and 8000"):
        match_scene(root, recipe, ImcOptions(), tmp_path / "run")


def test_an_image_beyond_its_category_is_named(root, tmp_path):
    """A recipe that gives a place several descriptions has more of them than places."""
    recipe = RECIPE | {"orientation": "oriented"}
    match_scene(root, Recipe.model_validate(recipe), ImcOptions(), tmp_path / "run")
    features = tmp_path / "run" / "features.h5"
    with h5py.File(features) as file:
        counts = {name: len(file[name]["keypoints"]) for name in file}
    least = min(counts.values())
    _check_category(features, max(counts.values()))
    with pytest.raises(
        UserError, match=rf"\d keypoints, the category allows {least - 1}; .*orientation=upright"
    ) as error:
        _check_category(features, least - 1)
    assert str(error.value).split(":")[0] in counts


def test_missing_bags_are_named(root, tmp_path):
    options = ImcOptions(tasks=("multiview",), bags=(25,))
    with pytest.raises(UserError, match="no bag of size 25"):
        score_scene(root, Recipe.model_validate(RECIPE), options, tmp_path / "run", seed=0)


def test_few_matches_are_a_failure():
    points = np.random.default_rng(0).uniform(0, 300, (7, 2))
    assert pose_from_matches(points, points, np.eye(3), np.eye(3), ImcOptions(), 0) is None


def test_tuning_on_validation_scenes_only(root, tmp_path, capsys):
    def config(name: str, images: Path) -> Path:
        path = tmp_path / name
        scenes = [{"name": "s", "kind": "imc", "images": str(images)}]
        recipe = {key: RECIPE[key] for key in ("detector", "threads", "device")}
        method = {"name": "m", "recipe": {"descriptor": {"name": "rootsift"}, "orientation": "upright"}}
        path.write_text(yaml.safe_dump({"title": "t", "recipe": recipe, "scenes": scenes, "methods": [method]}))
        return path

    arguments = ["--output", str(tmp_path / "out"), "--ratios", "0.6,0.85", "--thresholds", "0.75"]
    assert tune(["--config", str(config("a.yaml", root)), *arguments]) == 0
    table = json.loads((tmp_path / "out" / "tune.json").read_text())["m"]
    assert [row["max_ratio"] for row in table["tried"]] == [0.6, 0.85]
    assert table["best"] in table["tried"] and table["best"]["stereo_maa_10"] > 0.5
    test_scene = tmp_path / "british_museum"
    test_scene.mkdir()
    assert tune(["--config", str(config("b.yaml", test_scene)), *arguments]) == 2
    assert "not a validation scene" in capsys.readouterr().err
    assert tune(["--config", str(config("c.yaml", tmp_path / "nowhere" / "reichstag")), *arguments]) == 2
    assert "no scene of kind imc is there to tune on" in capsys.readouterr().err
