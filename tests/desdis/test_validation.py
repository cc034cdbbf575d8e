from pathlib import Path

import numpy as np
import pytest
import torch

from desdis.architectures import LightStudent
from desdis.errors import UserError
from desdis.patchsets import read_patch_set
from desdis.validation import require_scorable, set_names, validate
from tests.desdis.rendered_patch_set import write_patch_set

CPU = torch.device("cpu")


def test_a_set_too_small_is_named_before_and_at_validation(tmp_path):
    data = read_patch_set(write_patch_set(tmp_path / "small", points=12, scenes=2))
    for check in (require_scorable, lambda sets: validate(LightStudent(8), sets, CPU)):
        with pytest.raises(
            UserError, match=r"small is too small to validate on: its largest scene has \d points of 10"
        ):
            check([data])


def test_pairs_of_one_kind_give_no_score(tmp_path):
    folder = write_patch_set(tmp_path / "set", points=40, scenes=1)
    pairs = np.load(folder / "pairs.npy")
    np.save(folder / "pairs.npy", pairs[pairs[:, 2] == 1])
    with pytest.raises(UserError, match="pairs.npy lacks a label"):
        require_scorable([read_patch_set(folder)])


def test_sets_of_one_name_stay_apart(tmp_path):
    sets = [read_patch_set(write_patch_set(tmp_path / k / "set", 40, 1, seed)) for seed, k in enumerate("ab")]
    require_scorable(sets)
    scores = validate(LightStudent(8).eval(), sets, CPU)
    assert scores["score"] == pytest.approx((scores["a/set.score"] + scores["b/set.score"]) / 2)
    assert 1 < scores["a/set.dimensions_oriented"] < 128 and 1 < scores["b/set.dimensions_upright"] < 128


def test_names_of_sets():
    assert set_names([Path("x/one"), Path("y/two")]) == ["one", "two"]
    assert set_names([Path("x/set"), Path("y/set"), Path("y/other")]) == ["x/set", "y/set", "y/other"]
    with pytest.raises(UserError, match="given twice"):
        set_names([Path("x/set"), Path("x/../x/set")])
