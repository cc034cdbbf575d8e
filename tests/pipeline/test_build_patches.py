"""From photographs to a patch set, by every source."""

import json
import shutil
import sqlite3
from pathlib import Path

import cv2
import numpy as np
import pytest

from desdis.patchsets import read_patch_set
from pipeline.build_patches import FEWEST, main, places_of

RECIPE = ["--recipe", "descriptor.name=rootsift", "detector.max_keypoints=1000", "pairs.name=exhaustive"]


@pytest.fixture(scope="module")
def photographs(rendered_scene, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("places") / "room"
    shutil.copytree(rendered_scene / "images", folder)
    return folder


@pytest.fixture(scope="module")
def built(photographs, tmp_path_factory) -> Path:
    output = tmp_path_factory.mktemp("sets") / "set"
    assert main(["--images", str(photographs), "--output", str(output), *RECIPE]) == 0
    return output


def correlation(data, pairs: np.ndarray) -> np.ndarray:
    flat = [data.patches["oriented"][pairs[:, k], 8:56, 8:56].reshape(len(pairs), -1).astype(float) for k in (0, 1)]
    return np.array([np.corrcoef(a, b)[0, 1] for a, b in zip(*flat, strict=True)])


def test_photographs_become_patches_that_correspond(built):
    data = read_patch_set(built)
    assert data.manifest["scenes"][0]["name"] == "room"
    assert len(data.points) > 100
    match = data.pairs[:, 2] == 1
    assert np.median(correlation(data, data.pairs[match])) > 0.8
    assert np.median(correlation(data, data.pairs[~match])) < 0.3


def test_there_is_a_sheet_to_look_at(built):
    for kind in ("oriented", "upright"):
        assert cv2.imread(str(built / f"contact_sheet_{kind}.png")).std() > 20


def test_running_again_changes_nothing(built, photographs):
    before = {path.name: path.read_bytes() for path in built.glob("*.npy")}
    assert main(["--images", str(photographs), "--output", str(built), *RECIPE]) == 0
    assert {path.name: path.read_bytes() for path in built.glob("*.npy")} == before


def test_a_killed_run_goes_on_to_the_same_set(built, photographs, tmp_path):
    """What a kill leaves: the reconstruction, a torn scene, no set."""
    copy = tmp_path / "set"
    shutil.copytree(built, copy)
    for path in (*copy.glob("*.npy"), *copy.glob("scenes/*"), copy / "manifest.json", copy / "cut.json"):
        path.unlink()
    (copy / "scenes" / "room.part").write_bytes(b"torn")
    assert main(["--images", str(photographs), "--output", str(copy), *RECIPE]) == 0
    for path in built.glob("*.npy"):
        assert np.array_equal(np.load(copy / path.name), np.load(path)), path.name


def test_other_options_are_refused_by_name(built, photographs, capsys):
    arguments = ["--images", str(photographs), "--output", str(built), *RECIPE]
    assert main([*arguments, "--options", "tracks.min_track=3"]) == 2
    assert "begun with another tracks" in capsys.readouterr().err
    assert main([*arguments, "--options", "tracks.min_trak=3"]) == 2
    assert "tracks.min_trak" in capsys.readouterr().err
    assert main([*arguments, "--options", "margin"]) == 2
    assert "KEY=VALUE" in capsys.readouterr().err
    assert main([*arguments, "--options", "margin=1", "margin.x=3"]) == 2
    assert "'margin.x=3': margin is an option with a value" in capsys.readouterr().err


def test_options_that_would_change_nothing_are_refused(photographs, tmp_path, capsys):
    arguments = ["--images", str(photographs), "--output", str(tmp_path / "set"), *RECIPE]
    assert main([*arguments, "--homographies", "1", "--options", "margin=1.5", "orientation=upright"]) == 2
    assert "options of margin, orientation would change nothing" in capsys.readouterr().err
    assert main([*arguments, "--options", "homography.margin=1.5"]) == 2
    assert "they are of --homographies" in capsys.readouterr().err
    assert main([*arguments, "--homographies", "-1"]) == 2
    assert "--homographies -1: give" in capsys.readouterr().err
    assert not (tmp_path / "set").exists()


def mast(place: Path, photographs: Path, which: int) -> str:
    """A place of two photographs, noisy and of two exposures, by a camera that did not move."""
    picture = cv2.imread(str(sorted(photographs.iterdir())[which]))
    generator = np.random.default_rng(which)
    place.mkdir(parents=True)
    for k, gain in enumerate((1.0, 0.5)):
        noisy = np.clip(picture * gain + generator.normal(0, 12, picture.shape), 0, 255)
        cv2.imwrite(str(place / f"{k}.png"), noisy.astype(np.uint8))
    return str(place)


def test_other_places_make_the_set_anew(photographs, tmp_path, capsys):
    one, two = (mast(tmp_path / name, photographs, k) for k, name in enumerate(("one", "two")))
    rest = ["--output", str(tmp_path / "set"), "--fixed", *RECIPE, "--options", "orientation=upright"]
    assert main(["--images", one, *rest]) == 0
    alone = np.load(tmp_path / "set" / "patches.npy")
    observed = (tmp_path / "set" / "scenes" / "one.npz").stat().st_mtime_ns
    assert main(["--images", one, two, *rest]) == 0
    data = read_patch_set(tmp_path / "set")
    assert [scene["name"] for scene in data.manifest["scenes"]] == ["one", "two"]
    assert np.array_equal(data.patches["upright"][: len(alone)], alone)
    assert (tmp_path / "set" / "scenes" / "one.npz").stat().st_mtime_ns == observed
    assert main(["--images", one, *rest]) == 0
    assert np.array_equal(np.load(tmp_path / "set" / "patches.npy"), alone)
    assert main(["--images", mast(tmp_path / "elsewhere" / "one", photographs, 2), *rest]) == 2
    assert "is not the photograph" in capsys.readouterr().err


def test_a_model_and_its_database(rendered_scene, built, photographs, tmp_path):
    """A COLMAP model with the frames in the database beside it, as COLMAP itself leaves them."""
    folder = tmp_path / "colmap"
    folder.mkdir()
    shutil.copytree(built / "runs" / "room" / "sparse" / "0", folder / "sparse" / "0")
    import h5py

    from pipeline.files import features

    source = built / "runs" / "room" / "features.h5"
    with sqlite3.connect(folder / "database.db") as database, h5py.File(source) as file:
        database.execute("create table images (image_id integer, name text)")
        database.execute("create table keypoints (image_id integer, rows integer, cols integer, data blob)")
        for number, name in enumerate(features.names(source)):
            lafs = features.read(file, name, descriptors=False).lafs
            table = np.column_stack([lafs[:, :, 2], lafs[:, :, :2].reshape(-1, 4)]).astype(np.float32)
            database.execute("insert into images values (?, ?)", (number, name))
            database.execute("insert into keypoints values (?, ?, 6, ?)", (number, len(table), table.tobytes()))
    arguments = ["--images", str(photographs), "--output", str(tmp_path / "set"), "--model", str(folder / "sparse/0")]
    assert main(arguments) == 0
    assert np.array_equal(np.load(tmp_path / "set" / "patches.npy"), np.load(built / "patches.npy"))


def test_a_model_without_frames_says_so(built, photographs, tmp_path, capsys):
    shutil.copytree(built / "runs" / "room" / "sparse" / "0", tmp_path / "a" / "b" / "model")
    arguments = ["--images", str(photographs), "--output", str(tmp_path / "set")]
    assert main([*arguments, "--model", str(tmp_path / "a" / "b" / "model")]) == 2
    assert "no database.db beside the model" in capsys.readouterr().err


def test_a_camera_that_did_not_move(photographs, tmp_path):
    import cv2

    place = tmp_path / "mast"
    place.mkdir()
    picture = cv2.imread(str(sorted(photographs.iterdir())[0]))
    generator = np.random.default_rng(0)
    for k, gain in enumerate((1.0, 0.5)):
        noisy = np.clip(picture * gain + generator.normal(0, 12, picture.shape), 0, 255)
        cv2.imwrite(str(place / f"{k}.png"), noisy.astype(np.uint8))
    assert main(["--images", str(place), "--output", str(tmp_path / "set"), "--fixed", *RECIPE]) == 0
    data = read_patch_set(tmp_path / "set")
    frames = np.load(tmp_path / "set" / "frames.npy")
    assert len(data.points) >= FEWEST
    assert np.array_equal(frames[0::2], frames[1::2])
    cv2.imwrite(str(place / "2.png"), picture[:-20])
    assert main(["--images", str(place), "--output", str(tmp_path / "other"), "--fixed", *RECIPE]) == 2


def test_single_photographs_by_homographies(photographs, tmp_path):
    arguments = ["--images", str(photographs), "--output", str(tmp_path / "set"), "--homographies", "1", *RECIPE]
    assert main([*arguments, "--recipe", "detector.max_keypoints=100"]) == 0
    data = read_patch_set(tmp_path / "set")
    assert len(data.manifest["scenes"]) == 6
    assert np.diff(data.starts).max() == 2


def test_a_shared_photograph_stops_the_run(built, photographs, tmp_path, capsys):
    """A validation set may not be built from a place of the training set."""
    again = tmp_path / "again"
    again.mkdir()
    for path in photographs.iterdir():
        shutil.copy(path, again)
    arguments = ["--images", str(again), "--output", str(tmp_path / "set"), *RECIPE]
    assert main([*arguments, "--apart-from", str(built)]) == 2
    assert "leave that place out" in capsys.readouterr().err
    assert not (tmp_path / "set").exists()  # nothing was reconstructed


def test_folders_that_cannot_be(tmp_path, capsys):
    assert main(["--images", str(tmp_path / "none"), "--output", str(tmp_path / "set")]) == 2
    assert "is no folder" in capsys.readouterr().err
    for side in ("a", "b"):
        (tmp_path / side / "room").mkdir(parents=True)
    both = [str(tmp_path / "a" / "room"), str(tmp_path / "b" / "room")]
    assert main(["--images", *both, "--output", str(tmp_path / "set")]) == 2
    assert "same name" in capsys.readouterr().err


def test_a_place_goes_by_its_folder(tmp_path):
    for name in ("hall/images", "street"):
        (tmp_path / name).mkdir(parents=True)
    assert list(places_of([tmp_path / "hall" / "images", tmp_path / "street"])) == ["hall", "street"]


def test_set_remembers_its_options(built):
    begun = json.loads((built / "build.json").read_text())
    assert begun["tracks"]["max_error_px"] == 2.0
    assert begun["recipe"]["descriptor.name"] == "rootsift"
