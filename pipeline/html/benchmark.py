"""A benchmark's results.json as one page: tables with the best in bold, accuracy against time, curves, differences.

`python -m pipeline.html.benchmark results.json` writes benchmark.html beside it.
"""

import json
import math
import sys
from pathlib import Path
from typing import Any

from desdis.errors import UserError, command
from pipeline.html.figures import Figure, label
from pipeline.protocols.tables import SHOWN

_COLOURS = ["accent", "second", "third", "fourth", "fifth", "sixth"]
FEW = 8  # methods whose names and lines two figures side by side have room for
_CURVES = {
    "pose_curve": ("Model: share of pairs below an error", "degrees"),
    "stereo_curve": ("Two views: share of pairs below an error", "degrees"),
    "mma_curve": ("Planes: share of matches within a distance (MMA)", "pixels"),
}


def write_benchmark_html(output: Path, result: dict[str, Any]) -> Path:
    """Write `benchmark.html` into the folder `output` from results.json's content; returns its path."""
    from pipeline.html.page import render
    from pipeline.workspace import write_atomically

    figures = _figures(result)
    text = render(
        "benchmark.html.j2",
        {"figures": figures, "scene": None},
        result=result,
        drawn=figures,
        curves={name: title for name, (title, _) in _CURVES.items()},
        ranking=_ranking(result),
        tables=[_table(scene, result["scores"]) for scene in result["scenes"]],
        few=len(result["methods"]) <= FEW,
        links=[name for name in ("results.json", "results.md") if (output / name).exists()],
    )
    path = output / "benchmark.html"
    write_atomically(path, text)
    return path


def best(values: dict[str, float | None], digits: int, higher_is_better: bool | None) -> set[str]:
    """The names with the best value as it is printed (several where they print the same); none without a direction."""
    shown = {name: round(value, digits) for name, value in values.items() if value is not None}
    if higher_is_better is None or len(shown) < 2:
        return set()
    top = max(shown.values()) if higher_is_better else min(shown.values())
    return {name for name, value in shown.items() if value == top}


def _cell(value: float | None, spread: float | None, score: dict[str, Any], is_best: bool) -> dict[str, Any]:
    digits = score["digits"]
    text = "–" if value is None else f"{value:,.{digits}f}".replace(",", "\u2009")
    return {"text": text, "spread": f"± {spread:.{digits}f}" if spread else "", "best": is_best}


def _ranking(result: dict[str, Any]) -> dict[str, Any]:
    """Methods by the scores that scenes are judged by: means over scenes."""
    overall, scores = result["overall"], result["scores"]
    winners = {n: best(overall[n], scores[n]["digits"], scores[n]["higher_is_better"]) for n in overall}
    rows = [
        (method, [_cell(overall[n].get(method), None, scores[n], method in winners[n]) for n in overall])
        for method in result["methods"]
    ]
    return {"head": [scores[n]["label"] for n in overall], "rows": rows}


def _table(scene: dict[str, Any], scores: dict[str, Any]) -> dict[str, Any]:
    """One scene: methods by scores, mean and spread over the seeds."""
    names = [n for n in scene["score_names"] if n in SHOWN and any(n in row["scores"] for row in scene["rows"])]
    winners = {
        n: best({r["method"]: r["scores"].get(n, {}).get("mean") for r in scene["rows"]},
                scores[n]["digits"], scores[n]["higher_is_better"])
        for n in names
    }  # fmt: skip
    rows = []
    for row in scene["rows"]:
        cells = []
        for n in names:
            value = row["scores"].get(n, {})
            cells.append(_cell(value.get("mean"), value.get("std"), scores[n], row["method"] in winners[n]))
        costs = {"seconds": row["costs"].get("seconds"), "memory": row["costs"].get("peak_memory_mib")}
        rows.append({"cells": cells, **{key: row[key] for key in ("method", "failures", "not_run")}, **costs})
    return {"name": scene["name"], "kind": scene["kind"], "head": [scores[n]["label"] for n in names], "rows": rows}


def _stages(result: dict[str, Any]) -> list[str]:
    """Names of all stages, in the order in which they first appear."""
    rows = [row for scene in result["scenes"] for row in scene["rows"]]
    return list(dict.fromkeys(stage for row in rows for stage in row["costs"].get("stages", {})))


def _figures(result: dict[str, Any]) -> dict[str, Figure]:
    found: dict[str, Figure] = {}
    for score in result["overall"]:
        found[f"time-{score}"] = _against_time(result, score)
    for name, (_, unit) in _CURVES.items():
        if figure := _curve(result, name, unit):
            found[name] = figure
    for score in dict.fromkeys(d["score"] for d in result["differences"]):
        found[f"difference-{score}"] = _differences(result, score)
    if stages := _stages(result):
        found["seconds"] = _seconds(result, stages)
    return found


def _against_time(result: dict[str, Any], score: str) -> Figure:
    """Mean score over the scenes judged by it, against their seconds in all."""
    scenes = [scene for scene in result["scenes"] if score in scene["score_names"]]
    data = []
    for k, method in enumerate(result["methods"]):
        rows = [row for scene in scenes for row in scene["rows"] if row["method"] == method]
        value = result["overall"][score].get(method)
        if value is None or not rows:
            continue
        seconds = sum(row["costs"].get("seconds") or 0.0 for row in rows)
        data.append({"type": "scatter", "mode": "markers+text", "x": [round(seconds, 3)], "y": [round(value, 5)],
                     "text": [label(method)], "name": label(method), "cliponaxis": False,
                     "marker": {"size": 12, "color": _colour(k), "symbol": _symbol(k)},
                     "hovertemplate": f"{label(method)}<br>%{{y:.4g}} in %{{x:.1f}} s<extra></extra>"})  # fmt: skip
    values = [trace["y"][0] for trace in data] or [0.0, 1.0]
    room = 0.18 * (max(values) - min(values) or abs(max(values)) or 1.0)
    logs = [math.log10(max(trace["x"][0], 1e-3)) for trace in data] or [0.0]
    across, upright = (min(logs) - 0.12, max(logs) + 0.12), (min(values) - room, max(values) + 1.6 * room)
    width, height = (1000, 460) if len(data) > FEW else (440, 360)  # pixels, as `row` of the page lays it out
    points = [
        (width * (x - across[0]) / (across[1] - across[0]), height * (y - upright[0]) / (upright[1] - upright[0]))
        for x, y in zip(logs, values, strict=False)
    ]
    for trace, position in zip(data, label_positions(points, [trace["name"] for trace in data]), strict=True):
        trace["textposition"] = position
    layout = {"height": height, "hovermode": "closest",
              "xaxis": {"type": "log", "title": {"text": "seconds in all, over the same scenes"},
                        "range": across, "nticks": 6},
              "yaxis": {"title": {"text": label(result["scores"][score]["label"])}, "range": upright}}  # fmt: skip
    return {"data": data, "layout": layout}


def label_positions(points: list[tuple[float, float]], names: list[str]) -> list[str]:
    """Where plotly puts each point's name so that names cover each other and the points least; points are pixels, y
    upwards. One after another takes the best place that is left."""
    taken = [(x - 7, y - 7, x + 7, y + 7) for x, y in points]
    chosen = []
    for (x, y), name in zip(points, names, strict=True):
        width, height = 6.6 * len(name), 15
        left = {"left": x - 9 - width, "center": x - width / 2, "right": x + 9}
        low = {"top": y + 8, "middle": y - height / 2, "bottom": y - 8 - height}
        boxes = {
            f"{v} {h}": (left[h], low[v], left[h] + width, low[v] + height)
            for h in ("center", "right", "left") for v in ("top", "bottom", "middle") if (h, v) != ("center", "middle")
        }  # fmt: skip
        best_place = min(boxes, key=lambda place: sum(_overlap(boxes[place], other) for other in taken))
        taken.append(boxes[best_place])
        chosen.append(best_place)
    return chosen


def _overlap(a: tuple[float, ...], b: tuple[float, ...]) -> float:
    """Area that two boxes (left, low, right, high) share."""
    return max(0.0, min(a[2], b[2]) - max(a[0], b[0])) * max(0.0, min(a[3], b[3]) - max(a[1], b[1]))


def _curve(result: dict[str, Any], name: str, unit: str) -> Figure | None:
    """The mean over scenes of a curve at 1 to 10 degrees or pixels; a line for each method that has all scenes."""
    scenes = [s for s in result["scenes"] if any(name in row["curves"] for row in s["rows"])]
    data = []
    for k, method in enumerate(result["methods"]):
        curves = [r["curves"][name] for s in scenes for r in s["rows"] if r["method"] == method and name in r["curves"]]
        if not curves or len(curves) < len(scenes):
            continue
        mean = [round(sum(values) / len(curves), 5) for values in zip(*curves, strict=True)]
        data.append({"type": "scatter", "mode": "lines+markers", "name": label(method), "y": mean,
                     "x": list(range(1, len(mean) + 1)),
                     "line": {"color": _colour(k), "width": 2.3, "dash": "solid" if k < 6 else "dot"},
                     "marker": {"size": 6, "symbol": _symbol(k)},
                     "hovertemplate": f"{label(method)}: %{{y:.1%}} within %{{x}} {unit}<extra></extra>"})  # fmt: skip
    if not data:
        return None
    height = 480 if len(data) > FEW else 380
    return {"data": data, "layout": {
            "height": height, "showlegend": True, "xaxis": {"title": {"text": unit}, "dtick": 1},
            "yaxis": {"tickformat": ".0%", "title": {"text": "share"}}}}  # fmt: skip


def _differences(result: dict[str, Any], score: str) -> Figure:
    """Each method minus the baseline, scene by scene and over all, with its interval."""
    chosen = [d for d in result["differences"] if d["score"] == score]
    scenes = list(dict.fromkeys(d["scene"] for d in chosen if d["scene"] is not None))
    place = {scene: k + 1.6 for k, scene in enumerate(scenes)} | {None: 0.0}
    methods = [m for m in result["methods"] if any(d["method"] == m for d in chosen)]
    data = []
    for k, method in enumerate(methods):
        own = [d for d in chosen if d["method"] == method]
        shift = (k - (len(methods) - 1) / 2) * 0.7 / max(1, len(methods))
        colour = _colour(result["methods"].index(method))
        data.append({
            "type": "scatter", "mode": "markers", "name": label(method),
            "x": [round(d["mean"], 5) for d in own], "y": [round(place[d["scene"]] + shift, 4) for d in own],
            "error_x": {"type": "data", "symmetric": False, "thickness": 2, "width": 0, "color": colour,
                        "array": [round(d["high"] - d["mean"], 5) for d in own],
                        "arrayminus": [round(d["mean"] - d["low"], 5) for d in own]},
            "marker": {"size": [11 if d["scene"] is None else 8 for d in own], "color": colour, "opacity": 1,
                       "symbol": _symbol(result["methods"].index(method))},
            "customdata": [f"{label(method)}, {label(d['scene'] or 'all scenes', 60)}<br>{d['mean']:+.4g} "
                           f"({d['low']:+.4g} to {d['high']:+.4g}), larger in {d['larger']} of {d['n']}" for d in own],
            "hovertemplate": "%{customdata}<extra></extra>",
        })  # fmt: skip
    names = ["all scenes", *scenes]
    ticks = [place[None], *(place[s] for s in scenes)]
    return {"data": data, "layout": {
        "height": 110 + int((20 + 9 * len(methods)) * (len(names) + 0.6)), "showlegend": True, "hovermode": "closest",
        "xaxis": {"title": {"text": f"{label(result['scores'][score]['label'])}, minus {label(result['baseline'])}"},
                  "rangemode": "tozero", "zeroline": True, "zerolinecolor": "var(--soft)", "zerolinewidth": 1.5},
        "yaxis": {"tickvals": ticks, "ticktext": [label(n) for n in names], "autorange": "reversed",
                  "zeroline": False, "showgrid": False}}}  # fmt: skip


def _seconds(result: dict[str, Any], stages: list[str]) -> Figure:
    """Seconds of each method over all its scenes, by stage."""
    data = []
    for k, stage in enumerate(stages):
        totals = [
            sum(row["costs"].get("stages", {}).get(stage, {}).get("seconds", 0.0)
                for scene in result["scenes"] for row in scene["rows"] if row["method"] == method)
            for method in result["methods"]
        ]  # fmt: skip
        data.append({"type": "bar", "orientation": "h", "name": label(stage), "x": [round(t, 3) for t in totals],
                     "y": [label(m) for m in result["methods"]],
                     "marker": {"color": _colour(k), "opacity": 1 if k < 6 else 0.5},
                     "hovertemplate": f"%{{y}}: {label(stage)} %{{x:.1f}} s<extra></extra>"})  # fmt: skip
    return {"data": data, "layout": {"barmode": "stack", "height": 120 + 34 * len(result["methods"]), "bargap": 0.35,
            "showlegend": True, "xaxis": {"title": {"text": "seconds over all scenes, the least of the seeds"}},
            "yaxis": {"autorange": "reversed"}}}  # fmt: skip


def _colour(k: int) -> str:
    return f"var(--{_COLOURS[k % len(_COLOURS)]})"


def _symbol(k: int) -> str:
    return ("circle", "diamond", "square")[k // len(_COLOURS) % 3]


@command
def main(arguments: list[str] | None = None) -> int:
    words = sys.argv[1:] if arguments is None else arguments
    if len(words) != 1 or words[0] in ("-h", "--help"):
        raise UserError("usage: python -m pipeline.html.benchmark RESULTS.json")
    path = Path(words[0])
    try:
        result = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: cannot be read as a benchmark's results.json ({error})") from None
    print(write_benchmark_html(path.parent, result))
    return 0


if __name__ == "__main__":
    sys.exit(main())
