"""Ratio test and inlier threshold by measurement: `python -m pipeline.tune --config configs/benchmark/imc.yaml`.

In: a benchmark with scenes of kind imc. Out: stereo mAA(10 degrees) of every ratio and threshold, for each method the
best, as tune.json and on the screen. The scenes must be validation scenes of the challenge: options chosen on a test
scene would make its score worthless, so others are refused.
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

from desdis.errors import UserError, command
from pipeline.protocols.recipe import Benchmark, Method, Scene, load_benchmark, merged, missing_files
from pipeline.workspace import write_atomically


def tune(benchmark: Benchmark, output: Path, ratios: list[float], thresholds: list[float]) -> dict[str, Any]:
    """Mean over the validation scenes and seeds for every method, ratio and threshold. Raises UserError where a scene
    is no validation scene, or where there is none."""
    from pipeline.protocols.imc import VALIDATION

    scenes = [scene for scene in benchmark.scenes if scene.kind == "imc" and Path(scene.images).is_dir()]
    for scene in scenes:
        if not set(Path(scene.images).parts) & set(VALIDATION):
            raise UserError(f"{scene.images}: not a validation scene of the challenge ({', '.join(VALIDATION)})")
    if not scenes:
        raise UserError("no scene of kind imc is there to tune on; give --data with validation scenes of the challenge")
    table: dict[str, Any] = {}
    for method in benchmark.methods:
        if method.pipeline != "ours" or missing_files(method.recipe):
            continue
        tried = [
            {"max_ratio": ratio, "threshold": threshold, "stereo_maa_10": score}
            for ratio in ratios
            for threshold, score in _scores(benchmark, scenes, method, ratio, thresholds, output).items()
        ]
        table[method.name] = {"best": max(tried, key=lambda row: row["stereo_maa_10"]), "tried": tried}
    write_atomically(output / "tune.json", json.dumps(table, indent=1))
    return table


def _scores(
    benchmark: Benchmark, scenes: list[Scene], method: Method, ratio: float, thresholds: list[float], output: Path
) -> dict[float, float]:
    """Mean score by threshold: features are extracted once a method, matched once a ratio."""
    from pipeline.protocols.imc import match_scene, stereo
    from pipeline.recipe import Recipe

    found: dict[float, list[float]] = {threshold: [] for threshold in thresholds}
    for scene in scenes:
        options = merged(benchmark.options(scene, method, 0), {"matcher": {"max_ratio": ratio}})
        stereo_only = scene.imc.model_copy(update={"tasks": ("stereo",)})
        folder = output / "tune" / scene.name / method.name
        matched = match_scene(Path(scene.images), Recipe.model_validate(options), stereo_only, folder)
        for threshold in thresholds:
            for seed in benchmark.seeds:
                asked = stereo_only.model_copy(update={"threshold": threshold})
                found[threshold].append(stereo(matched, asked, seed)["scores"]["stereo_maa_10"])
    return {threshold: float(np.mean(scores)) for threshold, scores in found.items()}


@command
def main(arguments: list[str] | None = None) -> int:
    """The command; returns its exit status."""
    args = _parser().parse_args(arguments)
    output = args.output or Path("benchmarks") / f"{args.config.stem}-tune"
    benchmark = load_benchmark(args.config, args.data, args.weights)
    output.mkdir(parents=True, exist_ok=True)
    table = tune(benchmark, output, args.ratios, args.thresholds)
    for name, result in table.items():
        for row in result["tried"]:
            best = "  <- best" if row == result["best"] else ""
            tried = f"ratio {row['max_ratio']:g}, threshold {row['threshold']:g} px"
            print(f"{name}: {tried}: {row['stereo_maa_10']:.4f}{best}")
    return 0


def _numbers(text: str) -> list[float]:
    return [float(word) for word in text.split(",")]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m pipeline.tune", description="Ratio and inlier threshold by measurement on validation scenes."
    )
    parser.add_argument("--config", type=Path, required=True, help="a benchmark with scenes of kind imc")
    parser.add_argument("--output", type=Path, help="folder of the results (default benchmarks/NAME-tune)")
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), help="folder of the photograph sets")
    parser.add_argument("--weights", type=Path, default=Path("../shared/weights"), help="folder of weights")
    parser.add_argument("--ratios", type=_numbers, default=[0.8, 0.85, 0.9, 0.95], help="ratios, separated by commas")
    parser.add_argument(
        "--thresholds", type=_numbers, default=[0.25, 0.5, 0.75, 1.0, 1.5], help="pixels, separated by commas"
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
