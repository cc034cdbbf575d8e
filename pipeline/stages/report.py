"""Stage 8: everything that happened, as report.json (schema: docs/formats.md)."""

import json
import platform
from dataclasses import asdict
from importlib import metadata
from pathlib import Path
from typing import Any

import networkx as nx

from pipeline import view_graph
from pipeline.recipe import Recipe
from pipeline.types import Model, Survey, TwoView
from pipeline.workspace import Workspace, write_atomically

FORMAT = 1


def report(
    recipe: Recipe,
    survey: Survey,
    keypoints: dict[str, int],
    num_pairs: int,
    orientation: dict[str, Any],
    two_views: list[TwoView],
    models: list[Model],
    notes: list[str],
    accuracy: dict[str, Any] | None,
    weights_sha256: str | None,
    reference: Path | None,
    work: Workspace,
) -> dict[str, Any]:
    """The report as written to report.json. num_pairs: all that were compared; two_views: those with matches."""
    names = [photo.name for photo in survey.photos]
    graph = view_graph.view_graph(names, two_views)
    registered = {name for model in models for name in model.registered}
    verified = [view for view in two_views if len(view.inliers)]
    stages: dict[str, dict[str, Any]] = {name: dict(cost) for name, cost in work.timings().items()}
    what = {
        "survey": f"{len(names)} photographs, {_counted(len(survey.cameras), 'camera')}",
        "extract": f"{sum(keypoints.values())} keypoints",
        "pair": f"{num_pairs} pairs ({recipe.pairs.name})",
        "orient": orientation["decision"],
        "match": f"{sum(view.num_matches for view in two_views)} matches",
        "verify": f"{len(verified)} pairs verified, {sum(len(v.inliers) for v in verified)} inliers",
        "reconstruct": f"{_counted(len(models), 'model')}, {len(registered)} photographs",
        "evaluate": "" if accuracy is None else f"{accuracy['pairs']} pairs against the reference",
    }
    for name, text in what.items():
        if name in stages:
            stages[name]["what"] = text
    result = {
        "format": FORMAT,
        "images": {
            "root": str(survey.root),
            "found": len(names) + len(survey.skipped),
            "used": len(names),
            "skipped": [asdict(skipped) for skipped in survey.skipped],
            "not_registered": view_graph.left_alone(graph, registered, recipe.verify.min_num_inliers),
            "keypoints": keypoints,
        },
        "models": [
            {
                "index": model.index,
                "path": f"sparse/{model.index}",
                "registered_images": len(model.registered),
                "images": list(model.registered),
                "points3D": model.points3D,
                "observations": model.observations,
                "mean_track_length": model.mean_track_length,
                "mean_reprojection_error_px": model.mean_reprojection_error_px,
            }
            for model in models
        ],
        "accuracy": accuracy,
        "reference": None if reference is None else str(reference.resolve()),
        "view_graph": _graph(graph, two_views, num_pairs),
        "orientation": orientation,
        "stages": stages,
        "seconds_total": round(sum(stage["seconds"] for stage in stages.values()), 3),
        "peak_memory_mib": max((stage["peak_memory_mib"] for stage in stages.values()), default=0.0),
        "notes": [*survey.notes, *notes],
        "versions": versions(),
        "seed": recipe.seed,
        "recipe": recipe.flat(),
        "recipe_hash": recipe.hash,
        "weights_sha256": weights_sha256,
    }
    text = json.dumps(result, indent=1, allow_nan=False)
    write_atomically(work.report, text)
    return json.loads(text)


def versions() -> dict[str, str]:
    """The program, its interpreter and the libraries that decide results."""
    found = {"python": platform.python_version(), "platform": platform.platform()}
    for name in ("desdis", "pycolmap", "torch", "kornia", "numpy", "h5py", "networkx", "onnxruntime"):
        found[name] = _version(name)
    found["opencv"] = next((v for v in map(_version, ("opencv-python", "opencv-python-headless")) if v != "-"), "-")
    return found


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "-"


def _graph(graph: nx.Graph, two_views: list[TwoView], num_pairs: int) -> dict[str, Any]:
    return {
        "pairs": num_pairs,
        "verified_pairs": graph.number_of_edges(),
        "components": view_graph.components(graph),
        "bridges": [list(edge) for edge in view_graph.bridges(graph)],
        "edges": [
            {
                "images": list(view.names),
                "matches": view.num_matches,
                "inliers": len(view.inliers),
                "config": view.config,
                "confidence": round(view.confidence, 4),
            }
            for view in two_views
        ],
    }


def _counted(count: int, what: str) -> str:
    return f"{count} {what}" if count == 1 else f"{count} {what}s"
