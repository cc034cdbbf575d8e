"""What is no patch set is refused with one line that names the file."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from desdis.errors import UserError
from desdis.patchsets import UPRIGHT_ROLL, cut_pairs, draw_pairs, draw_upright, read_patch_set, turned_apart
from tests.desdis.rendered_patch_set import write_patch_set


@pytest.fixture(scope="module")
def good(tmp_path_factory) -> Path:
    return write_patch_set(tmp_path_factory.mktemp("sets") / "good", points=30)


def set_manifest(folder: Path, **changes: object) -> None:
    manifest = json.loads((folder / "manifest.json").read_text()) | changes
    (folder / "manifest.json").write_text(json.dumps({k: v for k, v in manifest.items() if v is not None}))


def with_one(value: float) -> Callable[[np.ndarray], np.ndarray]:
    def changed(array: np.ndarray) -> np.ndarray:
        array = array.copy()
        array.flat[-1] = value
        return array

    return changed


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("point_sizes", lambda a: a[:-1], "point_sizes.npy is"),
        ("pairs", lambda a: a + [10_000, 0, 0], "pairs.npy must hold rows below 90"),
        ("pairs", with_one(2), "pairs.npy must hold"),
        ("pairs", lambda a: a[:0], "pairs.npy is empty"),
        ("scene_ids", lambda a: a + 7, "scene_ids.npy names a scene"),
        ("scene_ids", lambda a: a.astype(float), "must hold integers"),
        ("point_ids", lambda a: 2 * a, "must count from 0 to 29"),
        ("point_ids", lambda a: a[::-1], "must count from 0"),
        ("patches", lambda a: a[:, :16, :16], "S from 32 to 256"),
        ("patches", lambda a: a // 255, "no grey values but 0 and 1"),
        ("patches_upright", lambda a: a.astype(np.float32), "patches_upright.npy is float32"),
        ("patches_upright", lambda a: a[:, :32, :32], "patches_upright.npy is .*32"),
        ("views", with_one(np.nan), "views.npy .* finite numbers"),
        ("points", with_one(np.inf), "points.npy .* finite numbers"),
        ("rolls", lambda a: a[1:], "rolls.npy is"),
    ],
)
def test_arrays_that_do_not_fit(good, tmp_path, name, change, message):
    shutil.copytree(good, tmp_path / "set")
    np.save(tmp_path / "set" / f"{name}.npy", change(np.load(good / f"{name}.npy")))
    with pytest.raises(UserError, match=message):
        read_patch_set(tmp_path / "set")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format": "others"}, "not of desdis-patches version 1"),
        ({"version": 2}, "not of desdis-patches version 1"),
        ({"scenes": None}, '"scenes" is no list'),
        ({"scenes": [1]}, '"scenes" is no list'),
        ({"images": [{}]}, '"images" is no list'),
        ({"margin": "wide"}, '"margin" is wide'),
    ],
)
def test_manifests_that_are_refused(good, tmp_path, changes, message):
    shutil.copytree(good, tmp_path / "set")
    set_manifest(tmp_path / "set", **changes)
    with pytest.raises(UserError, match=message):
        read_patch_set(tmp_path / "set")


def test_a_manifest_that_is_a_list_and_a_file_that_is_empty(good, tmp_path):
    shutil.copytree(good, tmp_path / "set")
    (tmp_path / "set" / "views.npy").write_bytes(b"")
    with pytest.raises(UserError, match="views.npy cannot be read"):
        read_patch_set(tmp_path / "set")
    (tmp_path / "set" / "manifest.json").write_text("[1]")
    with pytest.raises(UserError, match="not of desdis-patches"):
        read_patch_set(tmp_path / "set")


def test_patches_stay_on_disk(good):
    assert all(isinstance(patches, np.memmap) for patches in read_patch_set(good).patches.values())


def test_a_set_of_upright_patches_only(good, tmp_path):
    shutil.copytree(good, tmp_path / "set")
    (tmp_path / "set" / "patches_upright.npy").rename(tmp_path / "set" / "patches.npy")
    set_manifest(tmp_path / "set", orientation="upright")
    data = read_patch_set(tmp_path / "set")
    assert list(data.patches) == ["upright"]
    generator = np.random.default_rng(0)
    pairs = draw_pairs(data, np.arange(30), 16, generator)
    assert (turned_apart(data, pairs) < UPRIGHT_ROLL).mean() > 0.9
    upright = draw_upright(data, pairs, 0.0, generator)
    assert upright.all()
    want = np.load(good / "patches_upright.npy")[pairs.T.reshape(-1)]
    assert np.array_equal(cut_pairs(data.patches, pairs, upright), want)
