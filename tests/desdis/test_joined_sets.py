"""Two patch sets as one: every row, point and pair is where it belongs."""

import json

import numpy as np
import pytest

from desdis.errors import UserError
from desdis.joined_sets import Joined, join
from desdis.patchsets import cut_pairs, draw_pairs, read_patch_set
from desdis.recipe import Recipe
from desdis.train import train
from tests.desdis.rendered_patch_set import write_patch_set


@pytest.fixture(scope="module")
def sets(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sets")
    first, second = (write_patch_set(folder / name, n, seed=n, name=name) for name, n in (("a", 50), ("b", 30)))
    (second / "patches_upright.npy").unlink()
    return [read_patch_set(first), read_patch_set(second)]


def test_arrays_are_read_as_one():
    parts = [np.arange(6).reshape(3, 2), np.arange(6, 14).reshape(4, 2)]
    whole, joined = np.concatenate(parts), Joined(parts)
    assert (len(joined), joined.shape, joined.nbytes) == (7, (7, 2), whole.nbytes)
    for rows in (np.array([6, 0, 3, 2, 3]), slice(1, 5), np.array([], int)):
        np.testing.assert_array_equal(joined[rows], whole[rows])
    for rows in ([7], [0, -1]):
        with pytest.raises(IndexError, match="that has 7"):
            joined[np.array(rows)]


def test_points_scenes_and_pairs_keep_their_patches(sets):
    both = join(sets)
    assert (both.manifest["count"], both.manifest["points"]) == (240, 80) == (len(both.point_ids), len(both.points))
    names = [both.manifest["scenes"][scene]["name"] for scene in both.point_scenes]
    assert {name[0] for name in names[:50]} == {"a"} and {name[0] for name in names[50:]} == {"b"}
    np.testing.assert_array_equal(both.point_ids[both.starts[:-1]], np.arange(80))
    pairs = draw_pairs(both, np.array([4, 50 + 7]), 1, np.random.default_rng(0))
    assert (both.point_ids[pairs] == [[4, 4], [57, 57]]).all()
    cut = cut_pairs(both.patches, pairs, np.array([True, True]))
    np.testing.assert_array_equal(cut[0], sets[0].patches["upright"][pairs[0, 0]])
    np.testing.assert_array_equal(cut[1], sets[1].patches["oriented"][pairs[1, 0] - 150])  # has no upright ones
    a, b, label = both.pairs[-1]
    assert label == 0 and [a - 150, b - 150] == sets[1].pairs[-1, :2].tolist()
    assert join(sets[:1]) is sets[0]


def test_sets_of_another_kind_are_refused(sets, tmp_path):
    other = write_patch_set(tmp_path / "c", 20, name="c")
    manifest = json.loads((other / "manifest.json").read_text())
    (other / "manifest.json").write_text(json.dumps({**manifest, "margin": 1.5}))
    with pytest.raises(UserError, match="cannot be joined: margin"):
        join([sets[0], read_patch_set(other)])


def test_training_mixes_them(sets, tmp_path):
    teacher = {"teacher": "", "student": "desdis-4", "batch": 40, "steps": 2, "upright": 0.5, "save_every": 2}
    recipe = Recipe(**teacher, patches=f"{sets[0].folder} + {sets[1].folder}", output=str(tmp_path / "run"))
    assert train(recipe).is_file()
