import json

import cv2
import numpy as np
import pytest

from datasets.patches.hpatches import (
    SPLIT_TESTS,
    STRIPS,
    main,
    matching_score,
    read_descriptors,
    read_sequence,
    read_task,
    retrieval_score,
    split_test,
    verification,
    write_sequence,
)
from desdis.errors import UserError


def line(values: list[float]) -> np.ndarray:
    """Descriptors on a line, so that distances are differences."""
    return np.array(values, np.float32)[:, None]


def test_strips_survive_the_disk(tmp_path):
    generator = np.random.default_rng(0)
    strips = {name: generator.integers(0, 256, (3, 65, 65), np.uint8) for name in STRIPS}
    write_sequence(tmp_path / "v_wall", strips)
    back = read_sequence(tmp_path / "v_wall")
    assert all(np.array_equal(back[name], strips[name]) for name in STRIPS)
    write_sequence(tmp_path / "v_wall", {"e3": strips["e3"][:2]})
    with pytest.raises(UserError, match="has 2 patches"):
        read_sequence(tmp_path / "v_wall")
    (tmp_path / "v_wall" / "t5.png").unlink()
    (tmp_path / "v_wall" / "e3.png").unlink()
    with pytest.raises(UserError, match=r"e3\.png is absent"):
        read_sequence(tmp_path / "v_wall")


def test_splits():
    for tests in map(str.split, SPLIT_TESTS.values()):
        assert len(tests) == len(set(tests)) == 40 and {name[:2] for name in tests} == {"i_", "v_"}
    sequences = ["v_wall", "i_fog", "v_courses"]
    assert split_test("a", sequences) == ["i_fog", "v_courses"]
    assert split_test("b", sequences) == [s for s in sorted(sequences) if s in SPLIT_TESTS["b"].split()]
    assert split_test("view", sequences) == ["v_courses", "v_wall"]
    assert split_test("illum", sequences) == ["i_fog"]
    assert split_test("full", sequences) == sorted(sequences)
    with pytest.raises(UserError, match="choose from a, b, c, illum"):
        split_test("z", sequences)


def test_descriptors_and_tasks_are_read(tmp_path):
    for name in STRIPS:
        (tmp_path / "net" / "v_wall").mkdir(parents=True, exist_ok=True)
        (tmp_path / "net" / "v_wall" / f"{name}.csv").write_text("1,2\n3,4\n")
    back = read_descriptors(tmp_path / "net", ["v_wall"])
    assert back["v_wall"]["h2"].tolist() == [[1, 2], [3, 4]]
    with pytest.raises(UserError, match="v_none"):
        read_descriptors(tmp_path / "net", ["v_none"])
    (tmp_path / "task.csv").write_text("s1,t1,idx1,s2,t2,idx2\nv_wall,0,5,i_fog,3,1\n")
    assert read_task(tmp_path / "task.csv") == [("v_wall", 0, 5, "i_fog", 3, 1)]


def test_verification_by_hand():
    d = {"s": {"ref": line([0, 10, 20, 30, 40, 50]), "e1": line([1, 12, 23, 34, 45, 90])}}
    positives = [("s", 0, k, "s", 1, k) for k in range(5)]  # distances 1 2 3 4 5
    negatives = [("s", 0, 0, "s", 0, 1), ("s", 1, 0, "s", 1, 0)]  # 10 and 0
    balanced, imbalanced = verification(d, positives, negatives, "easy")
    assert balanced == pytest.approx(0.5)  # one negative before all matches, one behind
    # One match kept, found second: the trapezoid between (recall 0, precision 0) and (1, 1/2).
    assert imbalanced == pytest.approx(0.25, abs=1e-6)


def test_matching_by_hand():
    perfect = line([0, 10])
    swapped = line([10, 0])
    d = {"s": {"ref": perfect, **{f"e{k}": perfect for k in range(1, 6)}, **{f"h{k}": swapped for k in range(1, 6)}}}
    d["s"] |= {f"t{k}": line([0, 0.5]) for k in range(1, 6)}  # 0 -> 0 right, 1 -> column 1 right, at distance 9.5
    scores = matching_score(d, ["s"])
    assert scores == pytest.approx({"easy": 1, "hard": 0, "tough": 1, "mean": 2 / 3}, abs=1e-6)


def test_retrieval_by_hand():
    near = {f"e{k}": line([float(k)]) for k in range(1, 6)}
    d = {"a": {"ref": line([0.0]), **near}, "b": {"ref": line([0.5, 2.5, 9])}}
    queries, distractors = [("a", 0)], [("b", 0), ("a", 0), ("b", 1), ("b", 2)]
    scores = retrieval_score(d, queries, distractors, "easy", sizes=(5, 6, 8))
    assert scores[5] == pytest.approx(1)
    # b0 first: precision at the five hits 1/2 2/3 3/4 4/5 5/6, and before each the precision without it.
    after = [1 / 2, 2 / 3, 3 / 4, 4 / 5, 5 / 6]
    before = [0, *after[:-1]]
    assert scores[6] == pytest.approx(sum((x + y) / 2 for x, y in zip(before, after, strict=True)) / 5, abs=1e-6)
    assert scores[8] < scores[6]  # b1 comes between; the query's own sequence is no distractor


def test_the_command_scores_weights_and_csv(tmp_path, capsys):
    """Patches that differ in level by noise alone: the harder, the worse; a folder of descriptors goes the same way."""
    rng = np.random.default_rng(0)
    smooth = cv2.GaussianBlur(rng.standard_normal((2, 8, 65, 65)).reshape(-1, 65).astype(np.float32), (0, 0), 3)
    places = smooth.reshape(2, 8, 65, 65) * 400 + 128
    noise = {"r": 0, "e": 4, "h": 60, "t": 400}
    for sequence, patches in zip(("i_fog", "v_man"), places, strict=True):
        strips = {
            name: np.clip(patches + rng.normal(0, noise[name[0]] + 1e-9, patches.shape), 0, 255).astype(np.uint8)
            for name in STRIPS
        }
        write_sequence(tmp_path / "patches" / sequence, strips)
        for name, strip in strips.items():
            (tmp_path / "csv" / sequence).mkdir(parents=True, exist_ok=True)
            np.savetxt(tmp_path / f"csv/{sequence}/{name}.csv", strip.reshape(8, -1)[:, ::40], delimiter=",")
    tasks = tmp_path / "tasks"
    tasks.mkdir()
    lines = {
        "verif_pos": [f"{s},0,{k},{s},1,{k}" for s in ("i_fog", "v_man") for k in range(8)],
        "verif_neg_intra": [f"{s},0,{k},{s},2,{(k + 1) % 8}" for s in ("i_fog", "v_man") for k in range(8)],
        "verif_neg_inter": [f"i_fog,0,{k},v_man,3,{k}" for k in range(8)],
        "retr_queries": [f"{s},{k}" for s in ("i_fog", "v_man") for k in range(4)],
        "retr_distractors": [f"{s},{k}" for s in ("i_fog", "v_man") for k in range(8)],
    }
    for name, rows in lines.items():
        (tasks / f"{name}_split-a.csv").write_text("\n".join(["header", *rows]) + "\n")
    assert main([str(tmp_path / "patches"), "desdis-8", str(tmp_path / "csv"), "--tasks", str(tasks)]) == 0
    weights, csv = (json.loads(line) for line in capsys.readouterr().out.splitlines())
    for task in ("verification", "matching", "retrieval"):
        assert weights[f"{task} easy"] > 0.95 and weights[f"{task} tough"] <= weights[f"{task} easy"]
        assert weights[f"{task} mean"] == pytest.approx(
            np.mean([weights[f"{task} {level}"] for level in ("easy", "hard", "tough")])
        )
        assert csv[f"{task} easy"] > 0.9
    assert weights["matching tough"] < 0.9 > weights["retrieval tough"]
    assert main([str(tmp_path / "patches"), "desdis-8", "--tasks", str(tmp_path)]) == 2
    assert main([str(tmp_path / "patches"), "desdis-8", "--tasks", str(tasks), "--split", "z"]) == 2
