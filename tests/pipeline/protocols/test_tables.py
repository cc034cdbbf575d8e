"""Tables: failures count with the worst value, nothing vanishes, the best is bold, differences are paired."""

import json

import numpy as np
import pytest

from pipeline.protocols.recipe import Benchmark
from pipeline.protocols.tables import SCORES, markdown, results

BENCHMARK = Benchmark.model_validate(
    {
        "title": "T",
        "seeds": [0, 1],
        "baseline": "a",
        "scenes": [
            {"name": "s", "images": "x", "reference": "r", "cameras": "c"},
            {"name": "p", "kind": "pairs", "images": "x", "pairs": "y"},
        ],
        "methods": [{"name": "a"}, {"name": "b"}, {"name": "c"}, {"name": "colmap", "pipeline": "colmap"}],
    }
)


def cell(scene, method, seed, scores=None, error=None, **more):
    status = {"status": "failed", "error": error, "scores": {}} if error else {"status": "done", "scores": scores}
    return {"scene": scene, "method": method, "seed": seed} | status | more


COST = {"stages": {"extract": {"seconds": 2.0, "peak_memory_mib": 100.0}}}
CHEAPER = {"stages": {"extract": {"seconds": 1.0, "peak_memory_mib": 120.0}}}
CELLS = [
    cell("s", "a", 0, {"maa_10": 0.5, "median_pose_error_deg": 2.0}, **COST, places_sha256="1"),
    cell("s", "a", 1, {"maa_10": 0.7, "median_pose_error_deg": 1.0}, **CHEAPER, places_sha256="1"),
    cell("s", "b", 0, {"maa_10": 0.9, "median_pose_error_deg": 0.5}, places_sha256="2"),
    cell("s", "b", 1, error="ValueError: no"),
    cell("p", "a", 0, {"stereo_maa_10": 0.4}, stereo_curve=[0.4] * 10),
    cell("p", "a", 1, {"stereo_maa_10": 0.4}, stereo_curve=[0.2] * 10),
]


@pytest.fixture(scope="module")
def result():
    left_out = [{"what": "method", "name": "c", "reason": "there is no c.pth"}]
    return json.loads(json.dumps(results(BENCHMARK, CELLS, left_out, {}), allow_nan=False))


def row(result, scene, method):
    rows = next(s for s in result["scenes"] if s["name"] == scene)["rows"]
    return next(r for r in rows if r["method"] == method)


def test_a_failure_counts_with_the_worst_value(result):
    b = row(result, "s", "b")
    assert b["scores"]["maa_10"]["mean"] == pytest.approx(0.45) and b["scores"]["maa_10"]["min"] == 0
    assert b["scores"]["median_pose_error_deg"]["max"] == 180
    assert b["failures"] == [{"seed": 1, "error": "ValueError: no"}]


def test_what_was_not_run_or_left_out_is_named(result):
    assert row(result, "p", "b")["not_run"] == [0, 1] and row(result, "p", "b")["scores"] == {}
    assert result["left_out"][0]["name"] == "c" and "c" not in result["methods"]
    assert "p: not run with b" in result["notes"]
    partly = results(BENCHMARK, CELLS[1:], [], {})
    assert "s / a: seeds [0] were not run" in partly["notes"]
    assert all(r["method"] != "colmap" for s in result["scenes"] if s["name"] == "p" for r in s["rows"])


def test_costs_are_the_least_of_the_seeds(result):
    costs = row(result, "s", "a")["costs"]
    assert costs["stages"]["extract"] == {"seconds": 1.0, "peak_memory_mib": 100.0}
    assert costs["seconds"] == 1.0 and costs["peak_memory_mib"] == 100.0


def test_equal_detectors_with_other_keypoints_are_noted(result):
    assert "s: methods with one detector did not get the same keypoints" in result["notes"]


def test_curves_are_means(result):
    assert row(result, "p", "a")["curves"]["stereo_curve"] == pytest.approx([0.3] * 10)


def test_differences_are_paired_by_scene_and_seed(result):
    (d,) = (d for d in result["differences"] if d["method"] == "b" and d["score"] == "maa_10" and d["scene"] == "s")
    assert (d["n"], d["larger"]) == (2, 1)
    assert d["mean"] == pytest.approx(np.mean([0.4, -0.7]))
    assert d["low"] <= d["mean"] <= d["high"]


def test_overall_needs_all_scenes(result):
    assert result["overall"]["maa_10"] == {"a": pytest.approx(0.6), "b": pytest.approx(0.45), "colmap": None}


def test_markdown_shows_the_best_in_bold_and_every_failure(result):
    text = markdown(result)
    assert "**0.600** ± 0.141" in text and "0.450 ± 0.636" in text
    assert "**1.500**" in text  # of the median errors the smaller one
    assert "1 of 2" in text and "ValueError: no" in text and "not run" in text and "there is no c.pth" in text


def test_the_eth_table_has_a_row_for_every_cell():
    from pipeline.metrics import eth

    row = eth.row("s", "a", 11, 11, 14722, 70631, 0.4, 55, 100)
    cells = [cell("s", "a", 0, {"points3D": 14722.0}, eth=row), cell("s", "b", 0, error="no")]
    found = results(BENCHMARK.model_copy(update={"eth": True}), cells, [], {})
    assert [r["# Sparse Points"] for r in found["eth"]] == [14722, 0]
    assert "| s | a | 11 | 11 | 14722 | 70631 | 4.7976 |" in markdown(found)


def test_every_score_says_what_a_failure_is_worth():
    worth = {name: 180.0 if score.higher_is_better is False else 0.0 for name, score in SCORES.items()}
    assert {name: score.failed for name, score in SCORES.items()} == worth | {"bags_ate": None}
