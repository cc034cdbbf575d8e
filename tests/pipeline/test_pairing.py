import numpy as np
import pytest

from datasets.cameras import Pose, Reference
from desdis.errors import UserError
from pipeline.pairing.exhaustive import exhaustive
from pipeline.pairing.from_file import from_file
from pipeline.pairing.from_reference import from_reference
from pipeline.pairing.sequential import sequential


def test_exhaustive():
    assert exhaustive(["b", "c", "a"]) == [("a", "b"), ("a", "c"), ("b", "c")]


def test_sequential_counts_numbers_as_numbers_and_closes_loops():
    names = [f"frame{i}.jpg" for i in range(12)]
    pairs = sequential(names, overlap=2, quadratic=False, loop_step=5)
    assert ("frame9.jpg", "frame10.jpg") in pairs and ("frame9.jpg", "frame11.jpg") in pairs
    assert ("frame0.jpg", "frame10.jpg") in pairs and ("frame0.jpg", "frame9.jpg") not in pairs
    assert len(pairs) == len(set(pairs)) == 11 + 10 + 3


def test_sequential_quadratic_reaches_powers_of_two():
    pairs = sequential([f"{i:02}" for i in range(20)], overlap=4, quadratic=True)
    assert {int(b) - int(a) for a, b in pairs} == {1, 2, 3, 4, 8}


def test_from_file_understands_spaces_and_drops_repeats(tmp_path):
    path = tmp_path / "pairs.txt"
    path.write_text("# a comment\na b.jpg c.jpg\nc.jpg a b.jpg\n\nc.jpg d.jpg\n")
    assert from_file(["a b.jpg", "c.jpg", "d.jpg"], path) == [("a b.jpg", "c.jpg"), ("c.jpg", "d.jpg")]


@pytest.mark.parametrize("line", ["a.jpg", "a.jpg unknown.jpg", "a.jpg a.jpg"])
def test_from_file_names_the_bad_line(tmp_path, line):
    path = tmp_path / "pairs.txt"
    path.write_text(f"a.jpg b.jpg\n{line}\n")
    with pytest.raises(UserError, match="line 2"):
        from_file(["a.jpg", "b.jpg"], path)


def test_from_file_without_a_file(tmp_path):
    with pytest.raises(UserError, match=r"pairs\.file"):
        from_file(["a"], None)
    with pytest.raises(UserError, match="does not exist"):
        from_file(["a"], tmp_path / "none.txt")


def test_from_reference_takes_near_cameras_that_look_the_same_way():
    turned = np.diag([-1.0, 1.0, -1.0])
    poses = {
        "a": Pose(np.eye(3), np.zeros(3)),
        "b": Pose(np.eye(3), np.array([-1.0, 0, 0])),
        "c": Pose(np.eye(3), np.array([-5.0, 0, 0])),
        "back": Pose(turned, np.zeros(3)),
    }
    pairs = from_reference(list(poses), Reference(poses), max_angle=45, max_neighbours=1)
    assert pairs == [("a", "b"), ("b", "c")]
    with_unknown = from_reference(["a", "new"], Reference(poses), max_angle=45, max_neighbours=1)
    assert with_unknown == [("a", "new")]
