"""What plotly draws in the report: each function returns a figure as plotly's JSON, {"data": [...], "layout": {...}}.

Colours are names of CSS variables ("var(--accent)"): the page resolves them when it draws, so that a figure follows
light and dark. Names of photographs are untrusted and plotly reads some HTML in texts: they pass through `label`.
"""

import math
from collections.abc import Iterable, Sequence
from html import escape
from itertools import pairwise
from typing import Any

import numpy as np

from pipeline.html.contents import Contents, Pair

Figure = dict[str, Any]
ACCENT, SECOND, MUTED, WARN = "var(--accent)", "var(--second)", "var(--faint)", "var(--warn)"
SCALE = [[i / 4, f"var(--scale-{i})"] for i in range(5)]
_LABELLED = 44  # more photographs than this and their names no longer fit along an axis


def label(name: str, longest: int = 26) -> str:
    """A name as text for plotly: escaped, its middle left out where it is long."""
    if len(name) > longest:
        name = f"{name[: longest // 2 - 1]}…{name[-(longest // 2) :]}"
    return escape(name, quote=False)


def bars(names: Sequence[str], series: dict[str, Sequence[float]], unit: str, hover: str, height: int = 260) -> Figure:
    """Bars by photograph, stacked where there are several series. `hover` is plotly's number format with a unit."""
    colours = [ACCENT, SECOND, MUTED]
    data = [
        {
            "type": "bar",
            "name": title,
            "x": list(range(len(names))),
            "y": [round(float(v), 5) for v in values],
            "marker": {"color": colours[k % 3]},
            "customdata": [label(name, 60) for name in names],
            "hovertemplate": f"%{{customdata}}<br>{title}: {hover}<extra></extra>",
        }
        for k, (title, values) in enumerate(series.items())
    ]
    layout = {"barmode": "stack", "bargap": 0.25, "height": height, "xaxis": _names_axis(names) | {"showgrid": False},
              "yaxis": {"title": {"text": unit}, "rangemode": "tozero"}, "showlegend": len(series) > 1}  # fmt: skip
    return {"data": data, "layout": layout}


def keypoints(contents: Contents) -> Figure:
    """How many keypoints of each photograph came into the model, into a verified pair, or nowhere."""
    views = contents.model.views if contents.model else {}
    matched: dict[str, set[int]] = {name: set() for name in contents.names}
    for pair in contents.verified:
        for side, name in enumerate(pair.names):
            if name in matched:
                matched[name].update(pair.inliers[:, side].tolist())
    seen = {name: set(views[name].observed.tolist()) if name in views else set() for name in contents.names}
    return bars(
        contents.names,
        {
            "in the model": [len(seen[n]) for n in contents.names],
            "verified in a pair only": [len(matched[n] - seen[n]) for n in contents.names],
            "neither": [len(contents.keypoints[n]) - len(matched[n] | seen[n]) for n in contents.names],
        },
        "keypoints",
        "%{y:,}",
    )


def matrix(names: Sequence[str], cells: dict[tuple[str, str], float], title: str, texts: dict, ticks: list) -> Figure:
    """A symmetric matrix over photographs in a logarithmic colour scale. `texts` are shown on hover."""
    row = {name: i for i, name in enumerate(names)}
    z = np.full((len(names), len(names)), np.nan)
    hover = np.full(z.shape, "", object)
    for (a, b), value in cells.items():
        if a in row and b in row:
            z[row[a], row[b]] = z[row[b], row[a]] = math.log10(max(value, 1e-6))
            hover[row[a], row[b]] = hover[row[b], row[a]] = texts[(a, b)]
    shown = [label(name, 40) for name in names]
    few = len(names) <= 160  # a text for every cell only where that stays small
    heat = {
        "type": "heatmap",
        "z": [[None if not math.isfinite(v) else round(float(v), 3) for v in line] for line in z],
        "customdata": [[f"{shown[i]}<br>{shown[j]}<br>{hover[i, j]}" if hover[i, j] else "–" for j in range(len(names))]
                       for i in range(len(names))] if few else None,
        "hovertemplate": "%{customdata}<extra></extra>" if few else "10^%{z}<extra></extra>",
        "colorscale": SCALE,
        "xgap": 1 if len(names) <= 60 else 0,
        "ygap": 1 if len(names) <= 60 else 0,
        "colorbar": {"title": {"text": title, "side": "right"}, "tickvals": [math.log10(t) for t in ticks],
                     "ticktext": [f"{t:,g}" for t in ticks], "thickness": 10, "outlinewidth": 0, "len": 0.9},
    }  # fmt: skip
    axis = _names_axis(names) | {"showgrid": False, "zeroline": False, "constrain": "domain"}
    vertical = axis | {"autorange": "reversed", "scaleanchor": "x", "tickangle": 0}
    return {"data": [heat], "layout": {"height": 460, "xaxis": axis, "yaxis": vertical}}


def match_matrix(contents: Contents) -> Figure:
    """Inlier matches of every verified pair."""
    cells = {pair.names: float(len(pair.inliers)) for pair in contents.verified}
    texts = {
        pair.names: f"{len(pair.inliers):,} inliers of {pair.matches:,} matches ({pair.config.lower()})"
        for pair in contents.verified
    }
    return matrix(contents.names, cells, "inlier matches", texts, [10, 30, 100, 300, 1000, 3000, 10000])


def graph_layout(contents: Contents) -> dict[str, Any]:
    """Places (x, y) of the photographs, well-matched ones near each other; always the same for the same graph."""
    import networkx as nx

    graph = _graph(contents)
    return nx.spring_layout(graph, seed=1, iterations=80) if len(graph) > 1 else dict.fromkeys(graph, (0.0, 0.0))


def _graph(contents: Contents) -> Any:
    import networkx as nx

    graph = nx.Graph()
    graph.add_nodes_from(contents.names)
    for pair in contents.verified:
        graph.add_edge(*pair.names, weight=math.log(1 + len(pair.inliers)))
    return graph


def view_graph(contents: Contents, bridges: Iterable[Sequence[str]]) -> Figure:
    """Photographs and their verified pairs: more inliers, stronger lines; bridges in the colour of warning."""
    graph, place = _graph(contents), graph_layout(contents)
    fragile = {frozenset(edge) for edge in bridges}
    data = []
    limits = [0, 30, 100, 300, 1000, np.inf]
    for k, (low, high) in enumerate(pairwise(limits)):
        chosen = [p for p in contents.verified if low <= len(p.inliers) < high and frozenset(p.names) not in fragile]
        title = f"{low:g} to {high:g} inliers" if math.isfinite(high) else f"over {low:g} inliers"
        data.append(_lines(chosen, place, ACCENT, 0.6 + 0.6 * k, 0.12 + 0.13 * k, title))
    data.append(_lines([p for p in contents.verified if frozenset(p.names) in fragile], place, WARN, 3, 0.9, "bridge"))
    data = [trace for trace in data if trace["x"]]
    inside = set(contents.model.views) if contents.model else set()
    for title, colour, members in (
        ("in the model", ACCENT, [n for n in contents.names if n in inside]),
        ("not in the model", WARN, [n for n in contents.names if n not in inside]),
    ):
        if members:
            data.append(
                {
                    "type": "scatter", "mode": "markers", "name": title,
                    "x": [round(float(place[n][0]), 4) for n in members],
                    "y": [round(float(place[n][1]), 4) for n in members],
                    "marker": {"size": 11 if len(contents.names) < 60 else 8, "color": colour,
                               "line": {"width": 2, "color": "var(--panel)"}},
                    "customdata": [f"{label(n, 60)}<br>{graph.degree[n]} verified pairs" for n in members],
                    "hovertemplate": "%{customdata}<extra></extra>",
                }
            )  # fmt: skip
    hidden = {"visible": False}
    return {"data": data, "layout": {"height": 460, "xaxis": hidden, "yaxis": hidden | {"scaleanchor": "x"},
                                     "showlegend": True, "hovermode": "closest"}}  # fmt: skip


def residual_plane(contents: Contents, columns: int = 24) -> Figure | None:
    """Median residual by place in the photograph, as colour, and the mean residual vector, as a line.

    All photographs together in relative coordinates: what is not noise (distortion, a shifted principal point) shows
    as a pattern. None where there are too few observations to fill the cells.
    """
    if not contents.model:
        return None
    views = {n: v for n, v in contents.model.views.items() if n in contents.keypoints and len(v.observed)}
    if sum(len(v.observed) for v in views.values()) < 500:
        return None
    width, height = (np.median([contents.sizes[n][k] for n in views]) for k in (0, 1))
    rows = max(4, int(columns * height / width))
    relative = np.concatenate([contents.keypoints[n][v.observed] / contents.sizes[n] for n, v in views.items()])
    residuals = np.concatenate([v.residuals for v in views.values()])
    cell = np.clip((relative * (columns, rows)).astype(int), 0, (columns - 1, rows - 1))
    z: list[list[float | None]] = [[None] * columns for _ in range(rows)]
    x, y = [], []
    size = width / columns
    means = {}
    for j in range(rows):
        for i in range(columns):
            inside = residuals[(cell[:, 0] == i) & (cell[:, 1] == j)]
            if len(inside) >= 8:
                z[j][i] = round(float(np.median(np.linalg.norm(inside, axis=1))), 3)
                means[i, j] = inside.mean(axis=0)
    longest = max((float(np.linalg.norm(m)) for m in means.values()), default=1.0) or 1.0
    for (i, j), mean in means.items():
        centre = np.array([(i + 0.5) * size, (j + 0.5) * height / rows])
        tip = centre + mean / longest * size * 0.9
        x += [round(float(centre[0]), 1), round(float(tip[0]), 1), None]
        y += [round(float(centre[1]), 1), round(float(tip[1]), 1), None]
    heat = {
        "type": "heatmap", "z": z, "x0": size / 2, "dx": size, "y0": height / rows / 2, "dy": height / rows,
        "colorscale": SCALE, "zmin": 0, "hovertemplate": "median %{z:.2f} px<extra></extra>",
        "colorbar": {"title": {"text": "median residual, px", "side": "right"}, "thickness": 10, "outlinewidth": 0},
    }  # fmt: skip
    arrows = {"type": "scatter", "mode": "lines", "x": x, "y": y, "hoverinfo": "skip", "showlegend": False,
              "line": {"color": "var(--text)", "width": 1.2}}  # fmt: skip
    axis = {"constrain": "domain", "showgrid": False, "zeroline": False}
    plane = {"height": 380, "xaxis": axis, "yaxis": axis | {"autorange": "reversed", "scaleanchor": "x"}}
    return {"data": [heat, arrows], "layout": plane, "longest": longest}


def residual_sizes(contents: Contents) -> Figure | None:
    """How large the residuals of all observations are."""
    errors = [v.errors for v in contents.model.views.values()] if contents.model else []
    if not errors or not sum(map(len, errors)):
        return None
    every = np.concatenate(errors)
    counts, edges = np.histogram(every, bins=40, range=(0, max(float(np.percentile(every, 99.5)), 1e-6)))
    middle = [round(float(v), 4) for v in (edges[1:] + edges[:-1]) / 2]
    trace = {"type": "bar", "x": middle, "y": counts.tolist(), "marker": {"color": ACCENT},
             "hovertemplate": "%{y:,} observations near %{x:.2f} px<extra></extra>"}  # fmt: skip
    return {"data": [trace], "layout": {"height": 380, "bargap": 0.08, "xaxis": {"title": {"text": "residual, pixels"},
            "showgrid": False}, "yaxis": {"title": {"text": "observations"}}}}  # fmt: skip


def tracks(contents: Contents) -> Figure | None:
    """How many photographs see a point."""
    if not contents.model or not len(contents.model.track_length):
        return None
    counts = np.bincount(contents.model.track_length)[2:]
    trace = {"type": "bar", "x": list(range(2, len(counts) + 2)), "y": counts.tolist(), "marker": {"color": ACCENT},
             "hovertemplate": "%{y:,} points seen by %{x} photographs<extra></extra>"}  # fmt: skip
    axis = {"title": {"text": "photographs that see a point"}, "showgrid": False, "dtick": max(1, len(counts) // 20)}
    layout = {"height": 280, "bargap": 0.2, "xaxis": axis, "yaxis": {"title": {"text": "points"}}}
    return {"data": [trace], "layout": layout}


def pose_matrix(names: Sequence[str], pair_errors: list[dict]) -> Figure:
    """Pose error of every pair of reference images; a failure counts 180 degrees."""
    cells = {(e["names"][0], e["names"][1]): max(float(e["error_deg"]), 1e-3) for e in pair_errors}
    texts = {
        (e["names"][0], e["names"][1]): "not registered" if e["error_deg"] >= 180 else
        f"rotation {e['rotation_deg']:.3f}°, translation {e['translation_deg']:.3f}°"
        for e in pair_errors
    }  # fmt: skip
    return matrix(names, cells, "pose error, °", texts, [0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 180])


def recall(errors: dict[str, Sequence[float]], last: float = 20) -> Figure:
    """Share of pairs below an error, for one or several sets of errors in degrees; logarithmic in the error."""
    thresholds = np.geomspace(0.01, last, 160)
    colours = [ACCENT, SECOND, "var(--third)", "var(--fourth)", "var(--fifth)", "var(--sixth)"]
    data = [
        {
            "type": "scatter", "mode": "lines", "name": label(name), "x": [round(float(t), 4) for t in thresholds],
            "y": [round(float(np.mean(np.asarray(values) < t)), 4) for t in thresholds],
            "line": {"color": colours[k % 6], "width": 2.5, "dash": "solid" if k < 6 else "dot"},
            "hovertemplate": "%{y:.1%} of the pairs below %{x:.2f}°<extra></extra>",
        }
        for k, (name, values) in enumerate(errors.items())
    ]  # fmt: skip
    ticks = [0.01, 0.03, 0.1, 0.3, 1, 3, 10, 20]
    layout = {"height": 460, "showlegend": len(errors) > 1,
              "xaxis": {"type": "log", "title": {"text": "error of a pair, degrees"}, "tickvals": ticks,
                        "ticktext": [f"{t:g}" for t in ticks]},
              "yaxis": {"title": {"text": "share of pairs"}, "range": [0, 1.02], "tickformat": ".0%"}}  # fmt: skip
    return {"data": data, "layout": layout}


def cost(stages: dict[str, dict[str, Any]], key: str, unit: str, hover: str) -> Figure:
    """Seconds or memory of each stage, first stage on top."""
    names = list(stages)
    values = [stages[n].get(key) or 0.0 for n in names]
    largest = max(values, default=0.0) or 1.0
    digits = 1 if largest < 100 else 0
    trace = {"type": "bar", "orientation": "h", "x": values, "y": names,
             "marker": {"color": ACCENT}, "hovertemplate": f"%{{y}}: {hover}<extra></extra>",
             "text": [f"{value:,.{digits}f}" for value in values], "textposition": "outside",
             "cliponaxis": False}  # fmt: skip
    return {"data": [trace], "layout": {"height": 60 + 34 * len(names), "bargap": 0.35,
            "xaxis": {"title": {"text": unit}, "range": [0, 1.15 * largest]},  # room for the longest bar's label
            "yaxis": {"autorange": "reversed"}}}  # fmt: skip


def _names_axis(names: Sequence[str]) -> dict[str, Any]:
    if len(names) > _LABELLED:
        return {
            "showticklabels": False,
            "zeroline": False,
            "title": {"text": f"{len(names)} photographs, by name"},
            "ticks": "",
        }
    return {
        "zeroline": False,
        "tickvals": list(range(len(names))),
        "ticktext": [label(n, 18) for n in names],
        "tickangle": -50,
    }


def _lines(pairs: Sequence[Pair], place: dict, colour: str, width: float, opacity: float, title: str) -> Figure:
    x: list[float | None] = []
    y: list[float | None] = []
    for pair in pairs:
        (xa, ya), (xb, yb) = (place[name] for name in pair.names)
        x += [round(float(xa), 4), round(float(xb), 4), None]
        y += [round(float(ya), 4), round(float(yb), 4), None]
    return {"type": "scatter", "mode": "lines", "x": x, "y": y, "name": title, "hoverinfo": "skip",
            "opacity": opacity, "line": {"color": colour, "width": width}}  # fmt: skip
