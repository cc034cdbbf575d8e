"""What makes pycolmap abort, hang or lie must be stopped before it: each case in a process of its own.

An abort takes the whole process, and the crash handler may deadlock in it and ignore SIGTERM; so every case runs in a
fresh process that is killed (SIGKILL) when it does not end.
"""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SECONDS = 120  # far more than any case takes; a hang is what it ends

PNG = """
import io, numpy as np, cv2
from PIL import Image
picture = np.random.default_rng(0).integers(0, 255, (300, 400, 3), np.uint8)
assert cv2.imdecode(cv2.imencode(".png", picture)[1], 1).shape == picture.shape
Image.fromarray(picture).save(io.BytesIO(), "PNG")
"""

RUN = """
import sys
from pathlib import Path
import h5py, numpy as np
from desdis.errors import UserError
from pipeline.stages.verify import VerifyOptions, read_two_views, verify
from tests.pipeline.synthetic_run import write_run
run = write_run(Path(sys.argv[1]), names=("0001.png", "0002.png", "0003.png"))
options = VerifyOptions()
def go():
    verify(run.survey, run.pairs, options, 0, run.work, 1, lambda n: None)
    return read_two_views(run.work, options)
def refused(*words):
    try:
        go()
    except UserError as error:
        assert all(word in str(error) for word in words), error
    else:
        raise AssertionError("nothing was refused")
"""


def in_fresh_process(code: str, folder: Path) -> None:
    """Run the code; a non-zero status, a signal or a hang fails the test with what was printed."""
    try:
        done = subprocess.run(
            [sys.executable, "-c", code, str(folder)], cwd=ROOT, timeout=SECONDS, capture_output=True, text=True
        )
    except subprocess.TimeoutExpired as error:
        pytest.fail(f"killed after {SECONDS} s: {(error.stderr or b'')[-2000:]!r}")
    assert done.returncode == 0, f"status {done.returncode}\n{done.stdout[-1000:]}\n{done.stderr[-3000:]}"


@pytest.mark.parametrize(
    "first",
    [
        "import pipeline, pycolmap",
        "import pipeline.stages.verify, pycolmap",
        "import pipeline.mappers.incremental",
        "import pipeline.mappers.models",
        "import datasets.scenes.colmap_model, pycolmap",
        "import pipeline.run, pycolmap",
        "import run_reconstruction, pycolmap",
    ],
)
def test_png_is_written_after_pycolmap(first, tmp_path):
    in_fresh_process(first + PNG, tmp_path)


def test_the_untouched_run_verifies(tmp_path):
    in_fresh_process(RUN + "assert all(len(v.inliers) > 100 for v in go())", tmp_path)


def test_nan_keypoints(tmp_path):
    spoil = """
with h5py.File(run.work.features, "a") as file:
    file["0002.png/keypoints"][...] = np.nan
refused("0002.png", "NaN")
"""
    in_fresh_process(RUN + spoil, tmp_path)


def test_one_infinite_keypoint(tmp_path):
    spoil = """
with h5py.File(run.work.features, "a") as file:
    file["0002.png/keypoints"][3, 1] = np.inf
refused("0002.png", "infinite")
"""
    in_fresh_process(RUN + spoil, tmp_path)


@pytest.mark.parametrize("index", ["10_000", "len(run.seen['0002.png'])", "2**31 - 1"])
def test_match_beyond_the_keypoints(tmp_path, index):
    spoil = f"""
with h5py.File(run.work.matches, "a") as file:
    file["0001.png/0002.png/matches0"][:40] = {index}
refused("0001.png", "0002.png", "beyond the keypoints")
"""
    in_fresh_process(RUN + spoil, tmp_path)


def test_features_extracted_again_with_fewer_keypoints(tmp_path):
    """The way that it happens: old matches, new features."""
    spoil = """
with h5py.File(run.work.features, "a") as file:
    for key in ("keypoints", "lafs", "scores"):
        fewer = file["0002.png"][key][:60]
        del file["0002.png"][key]
        file["0002.png"][key] = fewer
refused("0002.png", "beyond the keypoints")
"""
    in_fresh_process(RUN + spoil, tmp_path)


def test_matches_given_twice_count_once(tmp_path):
    """`matches0` holds one match a keypoint, so repeats come in by other ways: the door takes them off."""
    check = """
from pipeline.stages.verify import checked_matches
rows = np.array([[1, 2], [0, 5], [1, 2], [0, 5], [3, 3]])
assert checked_matches(rows, np.zeros((9, 2)), np.zeros((9, 2)), ("a", "b")).tolist() == [[0, 5], [1, 2], [3, 3]]
for bad in ([[-1, 0]], [[0, 9]], [[9, 0]]):
    try:
        checked_matches(np.array(bad), np.zeros((9, 2)), np.zeros((9, 2)), ("a", "b"))
    except UserError:
        continue
    raise AssertionError(bad)
assert checked_matches(np.zeros((0, 2)), np.zeros((9, 2)), np.zeros((9, 2)), ("a", "b")).shape == (0, 2)
"""
    in_fresh_process(RUN + check, tmp_path)


def test_images_without_keypoints_or_matches(tmp_path):
    spoil = """
from pipeline.types import Features, Matches
from pipeline.files import features as feature_files, matches as match_files
with h5py.File(run.work.features, "a") as file:
    empty = Features(np.zeros((0, 2, 3), np.float32), np.zeros(0, np.float32),
                     {"oriented": np.zeros((0, 64), np.float32)}, (320, 240))
    feature_files.write(file, "0003.png", empty)
with h5py.File(run.work.matches, "a") as file:
    none = Matches(np.zeros((0, 2), np.int32), np.zeros(0, np.float32))
    match_files.write(file, "0001.png", "0003.png", none, len(run.seen["0001.png"]))
    match_files.write(file, "0002.png", "0003.png", none, len(run.seen["0002.png"]))
views = {v.names: len(v.inliers) for v in go()}
assert views.pop(("0001.png", "0002.png")) > 100 and set(views.values()) <= {0}, views
"""
    in_fresh_process(RUN + spoil, tmp_path)


@pytest.mark.parametrize("left", ["-wal", "-shm"])
def test_write_ahead_files_left_beside_a_new_database(tmp_path, left):
    """After a kill the database may be removed by hand and its helpers stay: they must not spoil the next one."""
    stale = f"""
go()
run.work.database.unlink()
Path(str(run.work.database) + "{left}").write_bytes(b"left over from an older database" * 400)
assert all(len(v.inliers) > 100 for v in go())
"""
    in_fresh_process(RUN + stale, tmp_path)


def test_overwrite_removes_the_database_with_its_helpers(tmp_path):
    stale = """
go()
run.work.plan({}, overwrite=False)
for left in ("-wal", "-shm"):
    Path(str(run.work.database) + left).write_bytes(b"stale" * 1000)
run.work.plan({"verify": {"verify.max_error": 2.0}}, overwrite=True)
assert not list(run.work.output.glob("database.db*"))
assert all(len(v.inliers) > 100 for v in go())
"""
    in_fresh_process(RUN + stale, tmp_path)
