"""Results of all cells -> one dictionary (results.json) and its tables as markdown.

A failed cell has the worst value of every score that its scene has: it lowers the mean and is counted beside it. A cell
that has not been run is named as such.
"""

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from pipeline.metrics import eth
from pipeline.metrics.statistics import paired_difference, summarise
from pipeline.protocols.recipe import Benchmark, Scene

FORMAT = 1


@dataclass(frozen=True)
class Score:
    """A column of the tables: what it is called, which way is better, what a failure counts as."""

    label: str
    digits: int = 3
    failed: float | None = 0.0  # None: said of successes only, as its protocol wants
    higher_is_better: bool | None = True  # None: a count that says nothing about quality


SCORES: dict[str, Score] = {
    "maa_10": Score("mAA(10°)"),
    "maa_5": Score("mAA(5°)"),
    "auc_1": Score("AUC@1°"),
    "auc_3": Score("AUC@3°"),
    "auc_5": Score("AUC@5°"),
    "auc_10": Score("AUC@10°"),
    "auc_20": Score("AUC@20°"),
    "median_pose_error_deg": Score("median error [°]", failed=180.0, higher_is_better=False),
    "registered": Score("registered", 2),
    "points3D": Score("3D points", 0),
    "mean_track_length": Score("track length", 2),
    "models": Score("models", 1, higher_is_better=None),
    "stereo_maa_10": Score("stereo mAA(10°)"),
    "stereo_maa_5": Score("stereo mAA(5°)"),
    "stereo_auc_5": Score("stereo AUC@5°"),
    "stereo_auc_10": Score("stereo AUC@10°"),
    "stereo_auc_20": Score("stereo AUC@20°"),
    "stereo_precision": Score("precision"),
    "stereo_matching_score": Score("matching score"),
    "stereo_matches": Score("matches", 0, higher_is_better=None),
    "stereo_inliers": Score("inliers", 0),
    "imc_score": Score("IMC score"),
    "bags_maa_10": Score("bags mAA(10°)"),
    "bags_maa_5": Score("bags mAA(5°)"),
    "bags_success_rate": Score("success rate"),
    "bags_registered_ratio": Score("registered ratio"),
    "bags_points3D": Score("3D points of a bag", 0),
    "bags_track_length": Score("track length of a bag", 2),
    "bags_ate": Score("ATE", 3, failed=None, higher_is_better=None),
    **{f"bag{size}_maa_10": Score(f"bags of {size}: mAA(10°)") for size in (5, 10, 25)},
    "mma": Score("MMA@1-10px"),
    "mma_1": Score("MMA@1px"),
    "mma_3": Score("MMA@3px"),
    "mma_5": Score("MMA@5px"),
    "repeatability": Score("repeatability"),
    "plane_matching_score": Score("matching score"),
    "homography_auc_1": Score("homography AUC@1px"),
    "homography_auc_3": Score("homography AUC@3px"),
    "homography_auc_5": Score("homography AUC@5px"),
    "plane_matches": Score("matches", 0, higher_is_better=None),
    "keypoints": Score("keypoints", 0, higher_is_better=None),
}
# The score that a scene is summed up by: the first of these that it has.
PRIMARY = ("maa_10", "imc_score", "stereo_maa_10", "mma", "points3D")
# Columns of a scene's table; results.json has them all.
SHOWN = (
    "maa_10", "maa_5", "auc_5", "median_pose_error_deg", "registered", "points3D", "mean_track_length",
    "stereo_maa_10", "stereo_maa_5", "stereo_auc_5", "stereo_auc_10", "stereo_auc_20", "stereo_precision",
    "stereo_matching_score", "imc_score", "bags_maa_10", "bags_maa_5", "bag5_maa_10", "bag10_maa_10", "bag25_maa_10",
    "bags_success_rate", "bags_registered_ratio", "bags_points3D", "bags_track_length", "bags_ate", "mma", "mma_1",
    "mma_3", "repeatability", "plane_matching_score", "homography_auc_1", "homography_auc_3", "homography_auc_5",
    "keypoints",
)  # fmt: skip


def results(
    benchmark: Benchmark, cells: Iterable[dict[str, Any]], left_out: list[dict[str, str]], about: dict[str, Any]
) -> dict[str, Any]:
    """The results as one JSON table. `cells` are the written cells in any order; those missing are named."""
    table = {(cell["scene"], cell["method"], cell["seed"]): cell for cell in cells}
    out = {(item["what"], item["name"]) for item in left_out}
    methods = [method.name for method in benchmark.methods if ("method", method.name) not in out]
    scenes = [
        _scene(benchmark, scene, methods, table) for scene in benchmark.scenes if ("scene", scene.name) not in out
    ]
    return {
        "format": FORMAT,
        "title": benchmark.title,
        "text": benchmark.text,
        "seeds": list(benchmark.seeds),
        "baseline": benchmark.baseline,
        "methods": methods,
        "left_out": left_out,
        "scores": {name: asdict(score) for name, score in SCORES.items()},
        "scenes": scenes,
        "overall": _overall(scenes, methods),
        "differences": _differences(benchmark, methods, scenes, table),
        "eth": _eth(benchmark, scenes, table) if benchmark.eth else [],
        "notes": _notes(benchmark, scenes, methods, table),
        "about": about,
        "recipe": benchmark.model_dump(mode="json"),
    }


def _scene(
    benchmark: Benchmark, scene: Scene, methods: list[str], table: dict[tuple[str, str, int], dict[str, Any]]
) -> dict[str, Any]:
    asked = [method.name for method in benchmark.asked(scene) if method.name in methods]
    of_method = {name: [table.get((scene.name, name, seed)) for seed in benchmark.seeds] for name in asked}
    present = {score for cells in of_method.values() for cell in cells if cell for score in cell["scores"]}
    names = [name for name in SCORES if name in present]
    rows = []
    for method, cells in of_method.items():
        found = [cell for cell in cells if cell]
        rows.append(
            {
                "method": method,
                "cells": len(found),
                "not_run": [s for s, cell in zip(benchmark.seeds, cells, strict=True) if not cell],
                "failures": [
                    {"seed": cell["seed"], "error": cell["error"]} for cell in found if cell["status"] == "failed"
                ],
                "scores": {
                    name: asdict(summarise(np.array(values))) for name in names if (values := _values(found, name))
                },
                "costs": _costs(found),
                "curves": _curves(found),
            }
        )
    return {
        "name": scene.name,
        "kind": scene.kind,
        "turn": scene.turn,
        "known_intrinsics": scene.cameras is not None or scene.kind == "pairs",
        "primary": next((name for name in PRIMARY if name in present), None),
        "score_names": names,
        "rows": rows,
    }


def _values(cells: list[dict[str, Any]], name: str) -> list[float]:
    values = [cell["scores"].get(name, SCORES[name].failed) for cell in cells]
    return [float(value) for value in values if value is not None]


def _costs(cells: list[dict[str, Any]]) -> dict[str, Any]:
    """Seconds and peak MiB by stage: the least of the seeds, since what else the machine does only adds."""
    stages: dict[str, dict[str, float]] = {}
    for cell in cells:
        for name, cost in cell.get("stages", {}).items():
            least = stages.setdefault(name, dict(cost))
            for key in least:
                least[key] = min(least[key], cost[key])
    return {
        "stages": stages,
        "seconds": sum(cost["seconds"] for cost in stages.values()),
        "peak_memory_mib": max((cost["peak_memory_mib"] for cost in stages.values()), default=0.0),
    }


def _curves(cells: list[dict[str, Any]]) -> dict[str, list[float]]:
    """Mean over the seeds of the accuracy curves at 1..10 degrees or pixels; a failed seed is a curve of zeros."""
    names = sorted({key for cell in cells for key in cell if key.endswith("_curve")})
    return {name: np.mean([cell.get(name, [0.0] * 10) for cell in cells], axis=0).round(6).tolist() for name in names}


def _overall(scenes: list[dict[str, Any]], methods: list[str]) -> dict[str, dict[str, float | None]]:
    """Mean over the scenes that have a score, by score and method; None where a scene of it was not run."""
    overall: dict[str, dict[str, float | None]] = {}
    for name in PRIMARY[:-1]:
        having = [scene for scene in scenes if name in scene["score_names"]]
        if not having:
            continue
        overall[name] = {}
        for method in methods:
            rows = [row for scene in having for row in scene["rows"] if row["method"] == method]
            whole = len(rows) == len(having) and all(row["scores"] for row in rows)
            overall[name][method] = float(np.mean([row["scores"][name]["mean"] for row in rows])) if whole else None
    return overall


def _differences(
    benchmark: Benchmark,
    methods: list[str],
    scenes: list[dict[str, Any]],
    table: dict[tuple[str, str, int], dict[str, Any]],
) -> list[dict[str, Any]]:
    """Each method minus the baseline over cells of the same scene and seed: over all scenes, and scene by scene."""
    found: list[dict[str, Any]] = []
    if benchmark.baseline not in methods:
        return found
    for method in methods:
        if method == benchmark.baseline:
            continue
        for score in PRIMARY:
            pairs = [
                (scene["name"], *_values([mine, theirs], score))
                for scene in scenes
                if score in scene["score_names"] and any(row["method"] == method for row in scene["rows"])
                for seed in benchmark.seeds
                if (mine := table.get((scene["name"], method, seed)))
                and (theirs := table.get((scene["name"], benchmark.baseline, seed)))
            ]
            for scene_name in [None, *dict.fromkeys(name for name, _, _ in pairs)]:
                chosen = [pair for pair in pairs if scene_name in (None, pair[0])]
                if not chosen:
                    continue
                labels, a, b = (np.array(column) for column in zip(*chosen, strict=True))
                difference = asdict(paired_difference(a, b, labels))
                found.append({"method": method, "score": score, "scene": scene_name} | difference)
    return found


def _eth(
    benchmark: Benchmark, scenes: list[dict[str, Any]], table: dict[tuple[str, str, int], dict[str, Any]]
) -> list[dict[str, Any]]:
    """A row for every scene and method, of the first seed; a failed cell is a row of zeros."""
    rows = []
    for scene in scenes:
        for row in scene["rows"]:
            cell = table.get((scene["name"], row["method"], benchmark.seeds[0]))
            if cell:
                nothing = eth.row(scene["name"], row["method"], 0, 0, 0, 0, None, 0, 0)
                rows.append(cell.get("eth", nothing))
    return rows


def _notes(
    benchmark: Benchmark,
    scenes: list[dict[str, Any]],
    methods: list[str],
    table: dict[tuple[str, str, int], dict[str, Any]],
) -> list[str]:
    """What a reader must know: cells that were not run, and whether equal detectors gave equal keypoints."""
    notes = []
    for scene in scenes:
        never = [row["method"] for row in scene["rows"] if not row["cells"]]
        if never:
            notes.append(f"{scene['name']}: not run with {', '.join(never)}")
        for row in scene["rows"]:
            if row["cells"] and row["not_run"]:
                notes.append(f"{scene['name']} / {row['method']}: seeds {row['not_run']} were not run")
    detectors = {m.name: repr(sorted(m.recipe.get("detector", {}).items())) for m in benchmark.methods}
    for scene in benchmark.scenes:
        places: dict[str, set[str]] = {}
        for (scene_name, method, _), cell in table.items():
            if scene_name == scene.name and method in methods and cell.get("places_sha256"):
                places.setdefault(detectors[method], set()).add(cell["places_sha256"])
        if any(len(hashes) > 1 for hashes in places.values()):
            notes.append(f"{scene.name}: methods with one detector did not get the same keypoints")
    return notes


def markdown(result: dict[str, Any]) -> str:
    """The results as tables, the best of each column in bold."""
    lines = [f"# {result['title']}", "", result["text"].strip(), ""]
    seeds = ", ".join(map(str, result["seeds"]))
    lines += [f"Mean ± standard deviation over seeds {seeds}; a failure counts with the worst value.", ""]
    for item in result["left_out"]:
        lines.append(f"- left out: {item['what']} {item['name']} ({item['reason']})")
    lines += [f"- note: {note}" for note in result["notes"]]
    if result["overall"]:
        lines += ["", "## All scenes", ""]
        header = ["method", *(f"{SCORES[name].label}, mean of scenes" for name in result["overall"])]
        rows = [[m, *(values[m] for values in result["overall"].values())] for m in result["methods"]]
        lines += _table(header, [row for row in rows if any(v is not None for v in row[1:])], list(result["overall"]))
    if result["differences"]:
        lines += ["", f"## Difference to {result['baseline']}, same scenes and seeds, 95 % bootstrap interval", ""]
        lines += ["| method | score | mean | interval | larger in |", "|---|---|--:|:-:|--:|"]
        for d in result["differences"]:
            if d["scene"] is None:
                digits = SCORES[d["score"]].digits
                lines.append(
                    f"| {d['method']} | {SCORES[d['score']].label} | {d['mean']:+.{digits}f} | "
                    f"{d['low']:+.{digits}f} to {d['high']:+.{digits}f} | {d['larger']} of {d['n']} |"
                )
    for scene in result["scenes"]:
        lines += ["", f"## {scene['name']}", "", *_scene_table(scene)]
    if result["eth"]:
        seed = result["seeds"][0]
        lines += ["", f"## Local feature evaluation, seed {seed}", "", *eth.table(result["eth"])]
    return "\n".join(lines).rstrip() + "\n"


def _scene_table(scene: dict[str, Any]) -> list[str]:
    names = [name for name in SHOWN if name in scene["score_names"]]
    header = ["method", *(SCORES[name].label for name in names), "failures", "seconds", "peak MiB"]
    rows: list[list[Any]] = []
    spreads: list[list[float]] = []
    for row in scene["rows"]:
        scores = [row["scores"].get(name) for name in names]
        failures = f"{len(row['failures'])} of {row['cells']}" if row["cells"] else "not run"
        costs = row["costs"]
        rows.append(
            [row["method"], *(s and s["mean"] for s in scores), failures, f"{costs['seconds']:.1f}",
             f"{costs['peak_memory_mib']:.0f}"]
        )  # fmt: skip
        spreads.append([s["std"] if s and s["n"] > 1 else 0.0 for s in scores])
    lines = _table(header, rows, names, spreads)
    for row in scene["rows"]:
        lines += [f"- {row['method']}, seed {f['seed']}: {f['error']}" for f in row["failures"]]
    return lines


def _table(
    header: list[str], rows: list[list[Any]], names: list[str], spreads: list[list[float]] | None = None
) -> list[str]:
    """Columns 1..len(names) hold numbers (or None) of those scores; further columns are text."""
    lines = ["| " + " | ".join(header) + " |", "|---|" + "--:|" * (len(header) - 1)]
    best = [_best([row[k + 1] for row in rows], SCORES[name]) for k, name in enumerate(names)]
    for r, row in enumerate(rows):
        cells = [row[0]]
        for k, name in enumerate(names):
            value, score = row[k + 1], SCORES[name]
            if value is None:
                cells.append("-")
                continue
            text = f"{value:.{score.digits}f}"
            strong = best[k] is not None and text == f"{best[k]:.{score.digits}f}"
            spread = spreads[r][k] if spreads else 0.0
            cells.append((f"**{text}**" if strong else text) + (f" ± {spread:.{score.digits}f}" if spread else ""))
        lines.append("| " + " | ".join([*cells, *map(str, row[len(names) + 1 :])]) + " |")
    return lines


def _best(values: list[float | None], score: Score) -> float | None:
    there = [value for value in values if value is not None]
    if score.higher_is_better is None or len(there) < 2:
        return None
    return max(there) if score.higher_is_better else min(there)
