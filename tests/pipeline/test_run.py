"""The whole row of stages on a rendered scene."""

import json
import shutil

import cv2
import numpy as np
import pycolmap
import pytest

import run_reconstruction
from desdis.checkpoints import WEIGHTS
from desdis.errors import UserError
from pipeline.files import features as feature_files
from pipeline.mappers.models import read_poses
from pipeline.recipe import load_recipe
from pipeline.run import run

SMALL = ["descriptor.name=rootsift", "detector.max_keypoints=1000", "deterministic=true"]


@pytest.fixture(scope="module")
def finished(rendered_scene, tmp_path_factory):
    output = tmp_path_factory.mktemp("runs") / "whole"
    report = run(
        load_recipe(None, SMALL), rendered_scene / "images", output, reference=rendered_scene / "cameras",
        cameras=rendered_scene / "cameras",
    )  # fmt: skip
    return output, report


def test_the_model_is_right(finished):
    _, report = finished
    assert len(report["models"]) == 1 and report["models"][0]["registered_images"] == 6
    assert report["models"][0]["points3D"] > 100
    assert report["accuracy"]["maa_10"] > 0.9 and report["accuracy"]["median_pose_error_deg"] < 0.5


def test_everything_lies_where_it_is_promised(finished):
    output, report = finished
    for name in ("features.h5", "pairs.txt", "matches.h5", "database.db", "sparse/0", "points.ply", "report.json",
                 "report.html", "run.log", "recipe.yaml"):  # fmt: skip
        assert (output / name).exists(), name
    assert json.loads((output / "report.json").read_text()) == report
    assert report["images"]["found"] == report["images"]["used"] == 6
    for name in ("survey", "extract", "pair", "match", "verify", "reconstruct", "evaluate"):
        assert report["stages"][name]["seconds"] >= 0 and report["stages"][name]["peak_memory_mib"] > 0
    assert report["view_graph"]["components"] == [sorted(report["models"][0]["images"])]
    assert load_recipe(output / "recipe.yaml").hash == report["recipe_hash"]


def test_known_intrinsics_stay_fixed(finished, rendered_scene):
    output, _ = finished
    true = pycolmap.Reconstruction(rendered_scene / "sparse")
    estimated = pycolmap.Reconstruction(output / "sparse" / "0")
    expected = next(iter(true.cameras.values())).calibration_matrix()
    for camera in estimated.cameras.values():
        np.testing.assert_array_equal(camera.calibration_matrix(), expected)


def test_the_same_command_twice_is_bit_identical(finished, rendered_scene, tmp_path):
    from tests.kill_and_resume import contents

    run(load_recipe(None, SMALL), rendered_scene / "images", tmp_path / "again", cameras=rendered_scene / "cameras")
    assert contents(finished[0]) == contents(tmp_path / "again")


def test_running_again_does_nothing_twice_and_a_changed_option_is_named(finished, rendered_scene, tmp_path):
    output = tmp_path / "copy"
    shutil.copytree(finished[0], output)
    model = output / "sparse" / "0" / "images.bin"
    mapped = model.stat().st_mtime_ns
    given = {"reference": rendered_scene / "cameras", "cameras": rendered_scene / "cameras"}
    again = run(load_recipe(None, SMALL), rendered_scene / "images", output, **given)
    assert again["models"] == finished[1]["models"]
    assert model.stat().st_mtime_ns == mapped
    changed = load_recipe(None, [*SMALL, "verify.max_error=3"])
    with pytest.raises(UserError, match=r"verify\.max_error: 4\.0 -> 3\.0"):
        run(changed, rendered_scene / "images", output, **given)
    redone = run(changed, rendered_scene / "images", output, overwrite=True, **given)
    assert redone["recipe"]["verify.max_error"] == 3.0 and model.stat().st_mtime_ns > mapped
    with pytest.raises(UserError, match=r"detector\.max_keypoints"):
        run(load_recipe(None, [*SMALL, "detector.max_keypoints=500"]), rendered_scene / "images", output, **given)


def test_other_weights_under_the_same_name_are_noticed(rendered_scene, tmp_path):
    weights = tmp_path / "mine.safetensors"
    recipe = load_recipe(None, ["detector.max_keypoints=100", "orientation=upright", f"descriptor.weights={weights}"])
    shutil.copy(WEIGHTS / "desdis-8.safetensors", weights)
    run(recipe, rendered_scene / "images", tmp_path / "output", last="match")
    shutil.copy(WEIGHTS / "desdis-16.safetensors", weights)
    with pytest.raises(UserError, match="weights_sha256"):
        run(recipe, rendered_scene / "images", tmp_path / "output", last="match")


def test_photographs_turned_by_quarters_lose_nothing_with_auto(finished, rendered_scene, tmp_path):
    """The same scene with every second photograph turned: upright frames alone would lose them."""
    for index, path in enumerate(sorted((rendered_scene / "images").iterdir())):
        image = cv2.imread(str(path))
        (tmp_path / "images").mkdir(exist_ok=True)
        cv2.imwrite(str(tmp_path / "images" / path.name), np.rot90(image, index % 2).copy())
    report = run(load_recipe(None, SMALL), tmp_path / "images", tmp_path / "out")
    assert report["models"][0]["registered_images"] == 6
    assert report["orientation"]["pairs"]["oriented"] >= 6
    assert finished[1]["orientation"]["decision"] == "upright"
    assert "turned against each other" in report["orientation"]["why"]


def test_killed_while_describing_the_other_way(rendered_scene, tmp_path, monkeypatch):
    """Turned photographs are described a second time: what a kill leaves in between is finished, and the same."""
    from pipeline.files import features
    from tests.kill_and_resume import contents

    (tmp_path / "images").mkdir()
    for index, path in enumerate(sorted((rendered_scene / "images").iterdir())[:3]):
        cv2.imwrite(str(tmp_path / "images" / path.name), np.rot90(cv2.imread(str(path)), index % 2).copy())
    write, calls = features.write, []

    def killed(file, name, found):
        calls.append(name)
        if len(calls) == 5:  # 3 probes, one whole, and this one torn
            del file[name]
            file.create_group(name)
            raise KeyboardInterrupt
        write(file, name, found)

    monkeypatch.setattr(features, "write", killed)
    recipe = load_recipe(None, [*SMALL, "deterministic=true"])
    with pytest.raises(KeyboardInterrupt):
        run(recipe, tmp_path / "images", tmp_path / "killed")
    monkeypatch.undo()
    resumed = run(recipe, tmp_path / "images", tmp_path / "killed")
    whole = run(recipe, tmp_path / "images", tmp_path / "whole")
    assert contents(tmp_path / "killed") == contents(tmp_path / "whole")
    assert resumed["orientation"] == whole["orientation"]


@pytest.mark.parametrize("mapper", ["global", "hierarchical"])
def test_other_mappers(finished, rendered_scene, tmp_path, mapper):
    output = tmp_path / "copy"
    shutil.copytree(finished[0], output)
    report = run(
        load_recipe(None, [*SMALL, f"mapper.name={mapper}"]), rendered_scene / "images", output,
        reference=rendered_scene / "cameras", cameras=rendered_scene / "cameras", overwrite=True,
    )  # fmt: skip
    assert report["models"][0]["registered_images"] == 6 and report["accuracy"]["maa_10"] > 0.9


def test_unrelated_photographs_are_not_joined(tmp_path):
    from tests.pipeline.pictures import picture

    (tmp_path / "images").mkdir()
    for seed in range(3):
        cv2.imwrite(str(tmp_path / "images" / f"{seed}.png"), picture(480, 640, seed))
    report = run(load_recipe(None, [*SMALL, "matcher.max_ratio=1"]), tmp_path / "images", tmp_path / "out")
    assert report["models"] == [] and report["view_graph"]["verified_pairs"] == 0
    assert {item["name"] for item in report["images"]["not_registered"]} == {"0.png", "1.png", "2.png"}
    assert all("too few inliers" in item["reason"] for item in report["images"]["not_registered"])
    assert run_reconstruction.main(
        ["--images", str(tmp_path / "images"), "--output", str(tmp_path / "out"), *SMALL, "matcher.max_ratio=1"]
    ) == run_reconstruction.NOTHING_RECONSTRUCTED  # fmt: skip


def test_features_carry_their_provenance(finished):
    import h5py

    output, _ = finished
    with h5py.File(output / "features.h5", "r") as file:
        manifest = json.loads(file.attrs["manifest"])
        assert manifest["options"]["detector.max_keypoints"] == 1000 and len(manifest["hash"]) == 64
    assert len(feature_files.names(output / "features.h5")) == 6
    assert len(read_poses(output / "sparse" / "0")) == 6


def test_exit_codes(tmp_path, capsys):
    assert run_reconstruction.main(["--images", str(tmp_path / "none")]) == run_reconstruction.USER_ERROR
    assert run_reconstruction.main(["--images", str(tmp_path), "detector.max_keypoint=3"]) == 2
    error = capsys.readouterr().err.strip().splitlines()
    assert len(error) == 2 and "max_keypoints" in error[1]


def test_a_mistake_leaves_nothing_in_the_way_of_the_next_try(rendered_scene, tmp_path, capsys):
    words = ["--images", str(rendered_scene / "images"), "--output", str(tmp_path / "run"), "--device", "cpu"]
    assert run_reconstruction.main([*words, "descriptor.weights=desdis-9"]) == 2
    assert "no weights called 'desdis-9'" in capsys.readouterr().err
    assert run_reconstruction.main([*words, "detector.max_keypoints=300", "descriptor.weights=desdis-8"]) == 0


@pytest.mark.parametrize(("kept", "words"), [(1, "one of the photographs only"), (0, "belongs to other photographs")])
def test_a_reference_that_does_not_fit_is_refused_before_anything_runs(rendered_scene, tmp_path, kept, words):
    (tmp_path / "truth").mkdir()
    for k, path in enumerate(sorted((rendered_scene / "cameras").iterdir())):
        shutil.copy(path, tmp_path / "truth" / (path.name if k < kept else f"other-{path.name}"))
    with pytest.raises(UserError, match=words) as error:
        run(load_recipe(None, SMALL), rendered_scene / "images", tmp_path / "out", reference=tmp_path / "truth")
    assert str(tmp_path / "truth") in str(error.value)
    assert not (tmp_path / "out" / "features.h5").exists()
