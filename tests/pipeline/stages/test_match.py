from collections.abc import Sequence

import h5py
import numpy as np
import pytest

from pipeline.files import features as feature_files
from pipeline.files import matches as match_files
from pipeline.matchers import Found, Pair
from pipeline.stages import match as stage
from pipeline.stages.match import PROMISE, UNPROMISING, _Cache, best_orientations, match, promising
from pipeline.types import Features, Matches
from pipeline.workspace import Workspace


def features(descriptors: dict[str, list[list[float]]], repeats: tuple[int, ...] = ()) -> Features:
    """One place a row; a row in `repeats` is another orientation of the row before."""
    n = len(next(iter(descriptors.values())))
    lafs = np.tile(np.array([[2.0, 0, 0], [0, 2, 0]], np.float32), (n, 1, 1))
    lafs[:, 0, 2] = np.arange(n)
    for row in repeats:
        lafs[row, 0, 2] = lafs[row - 1, 0, 2]
    arrays = {name: np.array(rows, np.float32) for name, rows in descriptors.items()}
    return Features(lafs, np.ones(n, np.float32), arrays, (10, 10))


def nearest(pairs: Sequence[Pair]) -> list[Found]:
    return [nearest_of_one(*pair) for pair in pairs]


def nearest_of_one(d0: np.ndarray, d1: np.ndarray) -> Found:
    similarity = d0 @ d1.T
    best = similarity.argmax(1)
    rows = np.flatnonzero(
        (similarity[np.arange(len(d0)), best] > 0.5) & (similarity.argmax(0)[best] == np.arange(len(d0)))
    )
    return Found(np.stack([rows, best[rows]], 1).astype(np.int32), similarity[rows, best[rows]])


def best_orientation(first: Features, second: Features) -> Matches:
    return best_orientations([(first, second)], nearest)[0]


def never(pairs: Sequence[Pair]) -> list[Found]:
    assert not pairs, "matched"
    return []


E = np.eye(4).tolist()
NONE = [[0.0] * 4] * 4


def test_the_orientation_with_more_matches_wins():
    level = features({"oriented": [E[0], *NONE[:3]], "upright": E})
    rolled = features({"oriented": E, "upright": [E[0], *NONE[:3]]})
    assert best_orientation(level, level).orientation == "upright"
    assert best_orientation(rolled, rolled).orientation == "oriented"


def test_orientations_of_one_place_count_once_and_refer_to_its_first_row():
    first = features({"oriented": E}, repeats=(1,))
    matches = best_orientation(first, first)
    np.testing.assert_array_equal(sorted(matches.indices.tolist()), [[0, 0], [2, 2], [3, 3]])


def test_a_place_keeps_its_best_match():
    first = features({"oriented": [E[0], [0, 0.9, 0, 0], E[2], E[3]]}, repeats=(1,))
    second = features({"oriented": E})
    matches = best_orientation(first, second)
    assert sorted(matches.indices.tolist()) == [[0, 0], [2, 2], [3, 3]]


def test_where_counts_are_alike_the_inliers_decide():
    rng = np.random.default_rng(0)
    points = rng.uniform([-2, -2, 4], [2, 2, 8], (50, 3))
    one_hot = np.eye(50)
    right = np.where(np.arange(50)[:, None] < 40, one_hot, 0)  # 40 matches of the same points
    wrong = one_hot[rng.permutation(50)]  # 50 matches of others
    first = features({"oriented": right.tolist(), "upright": one_hot.tolist()})
    second = features({"oriented": right.tolist(), "upright": wrong.tolist()})
    for photo, centre in ((first, [0, 0, 0]), (second, [1, 0.2, 0])):
        seen = points - centre
        photo.lafs[:, :, 2] = 600 * seen[:, :2] / seen[:, 2:] + 300
    found = best_orientation(first, second)
    assert found.orientation == "oriented" and len(found.indices) == 40


def photographs(work: Workspace, seen: dict[str, list[int]]) -> list[tuple[str, str]]:
    """features.h5 with one-hot descriptors of the places that each photograph sees; returns all pairs."""
    with feature_files.appending(work.features, {}) as file:
        for name, rows in seen.items():
            feature_files.write(file, name, features({"upright": np.eye(64)[rows].tolist()}))
    names = sorted(seen)
    return [(a, b) for k, a in enumerate(names) for b in names[k + 1 :]]


@pytest.mark.parametrize(("threads", "together"), [(1, 1), (3, 1), (1, 32), (2, 4)])
def test_of_many_pairs_the_unpromising_are_left_unmatched_and_counted(tmp_path, threads, together, monkeypatch):
    monkeypatch.setattr(stage, "SEVERAL", 0)  # these photographs have few keypoints
    work = Workspace(tmp_path)
    work.plan({}, overwrite=False)
    common = list(range(PROMISE))
    pairs = photographs(work, {"a": common, "b": common, "c": [*common[1:], 40], "d": list(range(20, 40))})
    decided = match(pairs, nearest, work, 1, threads, lambda done: None, sieve_from=5, together=together)
    assert decided == {"upright": 1, UNPROMISING: 5}
    with h5py.File(work.matches) as file:
        assert [len(match_files.read(file, *pair).indices) for pair in pairs] == [PROMISE, 0, 0, 0, 0, 0]
    again = match(pairs, never, work, 1, threads, lambda done: None, sieve_from=5, together=together)
    assert again == decided
    work.matches.unlink()
    # not more pairs than that
    decided = match(pairs, nearest, work, 1, threads, lambda done: None, sieve_from=6, together=together)
    assert decided == {"upright": 6}
    with h5py.File(work.matches) as file:
        assert len(match_files.read(file, "a", "c").indices) == PROMISE - 1


def test_photographs_of_few_keypoints_are_always_promising():
    first = features({"upright": E})
    assert promising([(first, first)], never) == [True]


def test_features_without_scores_are_always_promising(monkeypatch):
    monkeypatch.setattr(stage, "SEVERAL", 0)
    unscored = Features(features({"upright": E}).lafs, np.zeros(4, np.float32), {"upright": np.eye(4)}, (10, 10))
    assert promising([(unscored, unscored)], never) == [True]


def test_each_photograph_is_read_few_times_and_few_are_held(tmp_path, monkeypatch):
    work = Workspace(tmp_path)
    work.plan({}, overwrite=False)
    pairs = photographs(work, {f"{k:02d}": [k % 64] for k in range(80)})
    reads = []
    original = feature_files.read

    def counted(file, name, **how):
        reads.append(name)
        return original(file, name, **how)

    monkeypatch.setattr(feature_files, "read", counted)
    match(pairs, nearest, work, 1024, 2, lambda done: None)
    assert len(pairs) == 3160 and len(reads) <= 2 * 80
    with h5py.File(work.features) as file:
        cache = _Cache(file, 1024, ("upright",))
        for k in range(80):
            cache[f"{k:02d}"]
        assert len(cache._held) == 64
        tight = _Cache(file, 0, ("upright",))
        assert [len(tight[name].lafs) for name in ("00", "01", "02")] == [1, 1, 1]
        assert list(tight._held) == ["01", "02"]  # the two of a pair, whatever the bound
