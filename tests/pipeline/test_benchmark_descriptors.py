import json

import numpy as np
import pytest
import torch

from datasets.patches.plain_set import PlainScene, write_plain_set
from desdis.architectures import LightStudent
from desdis.checkpoints import save_network
from pipeline.benchmark_descriptors import _tasks, differences, main, markdown, usual_pairs


def row(method: str, scene: str, **scores: float) -> dict:
    return {"method": method, "group": "set", "scene": scene, "scores": scores}


def test_differences_are_paired_by_scene():
    rows = [row("a", s, fpr95=0.1 * k, top1=0.5 + 0.1 * k) for k, s in enumerate("xyz")]
    rows += [row("b", s, fpr95=0.1 * k + 0.02, top1=0.5) for k, s in enumerate("xyz")]
    rows += [row("b", "only-b", fpr95=1.0, top1=0.0)]
    fpr, top = differences(rows, [("a", "b")])
    assert fpr["scenes"] == top["scenes"] == 3
    assert (fpr["mean"], fpr["low"], fpr["high"]) == pytest.approx((-0.02, -0.02, -0.02))
    assert fpr["better"] == 3  # smaller is better
    assert top["mean"] == pytest.approx(0.1)
    assert top["low"] < 0.1 < top["high"]
    assert top["better"] == 2


def test_a_tie_is_not_better():
    rows = [row(method, s, fpr95=0.1, top1=0.5) for method in "ab" for s in "xyz"]
    assert [d["better"] for d in differences(rows, [("a", "b")])] == [0, 0]


def test_no_multiply_adds_are_a_dash():
    method = {"name": "mkd", "parameters": 12, "multiply_adds": 0, "patches_per_second": 5}
    assert "| mkd | 12 | - | 5 |" in markdown({"methods": [method], "rows": [], "differences": []})


def test_sets_of_one_name_stay_apart(tmp_path):
    folders = []
    for seed, parent in enumerate("ab"):
        patches = np.random.default_rng(seed).integers(0, 256, (60, 64, 64), np.uint8)
        places = np.column_stack([np.arange(30) * 100, np.zeros((30, 2))])
        folders.append(tmp_path / parent / "val")
        scene = PlainScene("s", patches, np.repeat(np.arange(30), 2), places, np.ones(30))
        write_plain_set(folders[-1], [scene], margin=1.25, magnification=9.0, options={})
    assert [task.group for task in _tasks(folders, None)] == ["a/val oriented", "b/val oriented"]


def test_usual_pairs_are_width_by_width_and_one_above():
    names = ["desdis-8", "desdis-16", "official/desdis-8", "official/desdis-16", "official/desdis-32", "rootsift"]
    assert usual_pairs(names) == [
        ("desdis-8", "official/desdis-8"), ("desdis-8", "official/desdis-16"),
        ("desdis-16", "official/desdis-16"), ("desdis-16", "official/desdis-32"),
    ]  # fmt: skip
    assert usual_pairs(["desdis-32", "authors-32", "authors-16"]) == [("desdis-32", "authors-32")]
    assert usual_pairs(["run/desdis-32", "official/desdis-32"]) == [("run/desdis-32", "official/desdis-32")]


def test_command_writes_tables(tmp_path, capsys):
    generator = np.random.default_rng(0)
    pictures = np.repeat(generator.integers(0, 256, (30, 64, 64)), 2, axis=0)
    patches = np.clip(pictures + generator.normal(0, 10, pictures.shape), 0, 255).astype(np.uint8)
    places = np.column_stack([np.arange(30) * 100, np.zeros((30, 2))])
    scene = PlainScene("s", patches, np.repeat(np.arange(30), 2), places, np.ones(30))
    write_plain_set(tmp_path / "val", [scene], margin=1.25, magnification=9.0, options={})
    files = []
    for name in ("one", "two"):
        torch.manual_seed(len(name))
        files.append(str(tmp_path / name / "desdis-8.safetensors"))
        save_network(LightStudent(8).eval(), tmp_path / name / "desdis-8.safetensors", {})
    arguments = ["--methods", *files, "--sets", str(tmp_path / "val"), "--output", str(tmp_path / "out")]
    assert main([*arguments, "--compare", "one/desdis-8", "two/desdis-8"]) == 0
    result = json.loads((tmp_path / "out" / "results.json").read_text())
    assert [m["name"] for m in result["methods"]] == ["one/desdis-8", "two/desdis-8"]
    assert result["methods"][0]["parameters"] == 80_712
    assert result["rows"][0]["scores"]["top1"] > 0.9
    assert {d["score"] for d in result["differences"]} == {"fpr95", "top1", "ratio", "retrieval"}
    text = (tmp_path / "out" / "results.md").read_text()
    assert text == markdown(result)
    assert "| one/desdis-8 | 80,712 | 0.38 M |" in text
    assert "**val oriented**, mean over 1 scenes" in text
    assert main([*arguments, "--compare", "one/desdis-8", "three"]) == 2
    assert "--compare three" in capsys.readouterr().err
    assert main(["--methods", files[0], "--planes", str(tmp_path / "none"), "--output", str(tmp_path / "out")]) == 2
    assert "none: no such folder" in capsys.readouterr().err
    assert main(["--methods", files[0]]) == 2
    assert main(["--methods", files[0], files[0], "--sets", str(tmp_path / "val")]) == 2
    assert main(["--methods", "desdos-1", "--sets", str(tmp_path / "val")]) == 2
