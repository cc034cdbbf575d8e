import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

from datasets.patches.contact_sheet import contact_sheet
from datasets.patches.patch_set import assemble, check_split, cut, evaluation_pairs, read_manifest, save_scene
from datasets.patches.plain_set import PlainScene, write_plain_set
from datasets.patches.sfm_tracks import TrackOptions, observe
from desdis.errors import UserError
from desdis.patchsets import read_patch_set
from tests.datasets.patches.planes import photograph, plane_scene, pose

VIEWS = [(0.0, 0.0, 2.0), (25.0, 0.0, 2.0), (-20.0, 70.0, 1.7)]
SCENES = ("hall", "street/0")


def photographs(root: Path, seed: int) -> Path:
    root.mkdir(parents=True)
    for k, view in enumerate(VIEWS):
        cv2.imwrite(str(root / f"{k}.png"), photograph(*pose(*view), seed))
    return root


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> tuple[Path, dict[str, Path]]:
    base = tmp_path_factory.mktemp("set")
    roots = {name: photographs(base / "photos" / str(k), seed=k) for k, name in enumerate(SCENES)}
    for k, name in enumerate(SCENES):
        tracks, frames = plane_scene(VIEWS, points=30, seed=k)
        save_scene(base / "set", name, roots[name], observe(tracks, frames, TrackOptions()))
    assemble(base / "set", SCENES, magnification=9.0, margin=1.25, options={"min_track": 2})
    cut(base / "set", roots)
    return base / "set", roots


def test_training_reads_it(built):
    data = read_patch_set(built[0])
    assert data.manifest["count"] == len(data.patches["oriented"]) == 180
    assert data.margin == 1.25
    assert len(data.points) == 60
    assert (np.diff(data.starts) == 3).all()
    assert data.scene_ids.tolist() == [0] * 90 + [1] * 90
    assert set(data.patches) == {"oriented", "upright"}


def test_patches_of_a_point_look_alike_and_others_do_not(built):
    data = read_patch_set(built[0])
    flat = data.patches["oriented"][:, 7:57, 7:57].reshape(180, -1).astype(float)
    likeness = np.corrcoef(flat)
    own = data.point_ids[:, None] == data.point_ids[None]
    np.fill_diagonal(own, False)
    assert np.median(likeness[own]) > 0.75
    different = ~own & ~np.eye(180, dtype=bool)
    assert abs(np.median(likeness[different])) < 0.2


def test_manifest_counts_and_hashes(built):
    manifest = read_manifest(built[0])
    assert [s["name"] for s in manifest["scenes"]] == list(SCENES)
    assert manifest["scenes"][1]["first_row"] == 90
    assert len(manifest["images"]) == 6
    assert len(manifest["source_sha256"]) == len(manifest["images"][0]["sha256"]) == 64
    assert manifest["options"] == {"min_track": 2}


def test_pairs_are_half_matches_within_one_scene(built):
    data = read_patch_set(built[0])
    a, b, label = data.pairs.T
    assert (data.scene_ids[a] == data.scene_ids[b]).all()
    assert ((data.point_ids[a] == data.point_ids[b]) == label.astype(bool)).all()
    assert (a != b).all()
    assert label.mean() == 0.5
    apart = np.linalg.norm(data.points[data.point_ids[a]] - data.points[data.point_ids[b]], axis=1)
    assert apart[label == 0].min() > 0.5 * 9 * data.point_sizes.min()


def test_pairs_repeat_with_the_seed(built):
    rows = {n: np.load(built[0] / f"{n}.npy") for n in ("point_ids", "scene_ids", "points", "point_sizes")}
    first, again = evaluation_pairs(rows, 9.0, 40), evaluation_pairs(rows, 9.0, 40)
    assert (first == again).all()
    assert len(first) <= 40
    assert not np.array_equal(first, evaluation_pairs(rows, 9.0, 40, seed=1))


def test_cut_resumes_and_gives_the_same(built, tmp_path):
    folder, roots = built
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    state = json.loads((copy / "cut.json").read_text())
    (copy / "cut.json").write_text(json.dumps(state | {"scenes": [SCENES[0]]}))
    for name in ("patches.npy", "patches_upright.npy"):
        page = np.lib.format.open_memmap(copy / name, "r+")
        page[90:] = 0
        page.flush()
    cut(copy, {SCENES[1]: roots[SCENES[1]]})  # the first scene's photographs are not asked for again
    for name in ("patches.npy", "patches_upright.npy"):
        assert np.array_equal(np.load(copy / name), np.load(folder / name))


@pytest.mark.parametrize("orientation", ["oriented", "upright"])
def test_one_orientation_is_one_file(built, tmp_path, orientation: str):
    folder, roots = built
    shutil.copytree(folder / "scenes", tmp_path / "scenes")
    assemble(tmp_path, SCENES, magnification=9.0, margin=1.25, orientation=orientation)
    cut(tmp_path, roots)
    both = {"oriented": "patches.npy", "upright": "patches_upright.npy"}[orientation]
    assert np.array_equal(np.load(tmp_path / "patches.npy"), np.load(folder / both))
    assert not (tmp_path / "patches_upright.npy").exists()
    assert list(read_patch_set(tmp_path).patches) == [orientation]
    contact_sheet(tmp_path, tmp_path / "sheet.png", pairs=20, orientation=orientation)


def test_a_photograph_in_both_sets_stops(built, tmp_path):
    folder, _roots = built
    with pytest.raises(UserError, match="leave that place out"):
        check_split(folder, folder)
    other = photographs(tmp_path / "photos", seed=7)
    tracks, frames = plane_scene(VIEWS, points=30)
    save_scene(tmp_path / "other", "place", other, observe(tracks, frames, TrackOptions()))
    assemble(tmp_path / "other", ["place"], magnification=9.0, margin=1.25)
    check_split(folder, tmp_path / "other")
    # The same photograph, recompressed and smaller: the bytes differ, the picture does not.
    again = cv2.resize(photograph(*pose(*VIEWS[0]), 0), None, fx=0.75, fy=0.75, interpolation=cv2.INTER_AREA)
    cv2.imwrite(str(other / "0.png"), again)
    save_scene(tmp_path / "other", "place", other, observe(tracks, frames, TrackOptions()))
    assemble(tmp_path / "other", ["place"], magnification=9.0, margin=1.25)
    with pytest.raises(UserError, match="looks like"):
        check_split(folder, tmp_path / "other")


def test_a_set_without_thumbnails_is_not_compared_by_look(built, tmp_path, capsys):
    generator = np.random.default_rng(0)
    sources = []
    for name in "ab":
        patches = generator.integers(0, 256, (24, 64, 64), np.uint8)
        scene = PlainScene("s", patches, np.repeat(np.arange(12), 2), np.eye(12, 3) * 99, np.ones(12))
        write_plain_set(tmp_path / name, [scene], margin=1.0, magnification=1.0, options={})
        sources.append(read_manifest(tmp_path / name)["source_sha256"])
    assert len(sources[0]) == 64
    assert sources[0] != sources[1]  # without photographs, the patches are the source
    check_split(tmp_path / "a", built[0])
    assert f"not compared by look: {tmp_path / 'a'} has no thumbnails" in capsys.readouterr().err


def test_contact_sheet(built, tmp_path):
    contact_sheet(built[0], tmp_path / "sheet.png", pairs=20)
    sheet = cv2.imread(str(tmp_path / "sheet.png"), cv2.IMREAD_GRAYSCALE)
    assert sheet.shape == (3 * 68, 8 * 134)
    assert sheet.std() > 20


def test_errors_say_what_to_do(built, tmp_path):
    with pytest.raises(UserError, match="build it again"):
        read_manifest(tmp_path)
    with pytest.raises(UserError, match="no scene gave patches"):
        assemble(tmp_path, [], magnification=9.0, margin=1.25)
    shutil.copytree(built[0], tmp_path / "copy")
    (tmp_path / "copy" / "cut.json").unlink()
    with pytest.raises(UserError, match="scene hall is not given"):
        cut(tmp_path / "copy", {})
    with pytest.raises(UserError, match="cannot read the photograph"):
        cut(tmp_path / "copy", dict.fromkeys(SCENES, tmp_path))
