"""Descriptors against each other: `python -m pipeline.benchmark_descriptors --sets SET... --planes DIR`.

On patch sets (python -m pipeline.build_patches) and on planes with known homographies, every method sees the same
patches: FPR95 in both published counts, share of right nearest neighbours, matching and retrieval precision. Beside
each method its parameters, multiply-adds and patches a second of processor time. With `--pipeline CONFIG` the program's
own benchmark (python -m pipeline.benchmark) runs as well, and its stereo and multi-view scores are compared likewise.

Methods are compared scene by scene: the mean difference and its 95 % bootstrap interval over scenes. Out, under
--output: results.json and results.md. Running again with more methods scores only what is new.
"""

import argparse
import hashlib
import json
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from desdis.errors import UserError, command
from pipeline.workspace import write_atomically

DEFAULT_METHODS = ("desdis-8", "desdis-16", "desdis-24", "desdis-32", "desdis-48", "rootsift")
COLUMNS = {
    "fpr95": "FPR95 %", "fpr95_hynet": "FPR95 % (HyNet's count)", "top1": "top-1", "matching": "matching mAP",
    "ratio": "mAP by ratio", "retrieval": "retrieval mAP",
}  # fmt: skip
COMPARED = ("fpr95", "top1", "ratio", "retrieval")
PIPELINE = ("stereo_maa_10", "maa_10", "registered", "points3D")
SMALLER_IS_BETTER = ("fpr95", "fpr95_hynet")

DATA, WEIGHTS = Path("../shared/data"), Path("../shared/weights")

Row = dict[str, Any]


@command
def main(arguments: list[str] | None = None) -> int:
    """The command; returns its exit status (0 done, 2 a user's mistake)."""
    args = _parser().parse_args(arguments)
    result = run(
        args.methods, args.sets, args.planes, [tuple(pair) for pair in args.compare], args.output,
        pipeline=args.pipeline, data=args.data, weights=args.weights,
    )  # fmt: skip
    print(markdown(result))
    print(f"{args.output}/results.json, results.md")
    return 0


def run(
    methods: Sequence[str],
    sets: Sequence[Path],
    planes: Path | None,
    compare: Sequence[tuple[str, str]],
    output: Path,
    *,
    pipeline: Path | None = None,
    data: Path = DATA,
    weights: Path = WEIGHTS,
) -> Row:
    """Score the methods and write the results. `compare`: pairs of method names, the first against the second; with
    none given, those of `usual_pairs`. Raises UserError."""
    from pipeline.protocols.patch_methods import patch_method, patches_per_second

    if not (sets or planes or pipeline):
        raise UserError("nothing to score on: give --sets, --planes or --pipeline")
    built = [patch_method(spec) for spec in methods]
    names = [method.name for method in built]
    if len(set(names)) < len(names):
        raise UserError(f"two methods have one name: {', '.join(names)}; rename a file")
    for name in {name for pair in compare for name in pair} - set(names):
        raise UserError(f"--compare {name}: not one of the methods {', '.join(names)}")
    output.mkdir(parents=True, exist_ok=True)
    rows: list[Row] = []
    for task in _tasks(sets, planes):
        for method in built:
            rows.append(_row(task, method, output / "scores"))
        print(f"{task.group}: {task.scene}", file=sys.stderr)
    if pipeline:
        rows += _pipeline_rows(pipeline, output, data, weights)
        names = list(dict.fromkeys(row["method"] for row in rows))
    result = {
        "methods": [
            {"name": m.name, "parameters": m.parameters, "multiply_adds": m.multiply_adds, "sha256": m.sha256,
             "patches_per_second": round(patches_per_second(m))}
            for m in built
        ],
        "rows": rows,
        "differences": differences(rows, compare or usual_pairs(names)),
    }  # fmt: skip
    write_atomically(output / "results.json", json.dumps(result, indent=1))
    write_atomically(output / "results.md", markdown(result))
    return result


def _row(task: Any, method: Any, folder: Path) -> Row:
    """One method's scores on one task; read from `folder` where the same patches met the same weights before."""
    asked = hashlib.sha256(f"{task.sha256} {task.group} {method.name} {method.sha256}".encode()).hexdigest()
    path = folder / f"{asked[:32]}.json"
    if path.exists():
        return json.loads(path.read_text())
    scores = task.score(method.describe(task.patches))
    row = {"method": method.name, "group": task.group, "scene": task.scene, "scores": scores}
    folder.mkdir(exist_ok=True)
    write_atomically(path, json.dumps(row))
    return row


def usual_pairs(names: Sequence[str]) -> list[tuple[str, str]]:
    """Ours against the authors' at every width, and against theirs of another: the next, and of 48, their widest."""
    widths = (8, 16, 24, 32)
    pairs = []
    for ours in names:
        width = ours.rpartition("-")[2]
        if "official/" in ours or not ours.rpartition("/")[2].startswith("desdis-") or not width.isdecimal():
            continue
        another = {8: 16, 16: 32, 48: 32}.get(int(width))
        for other in (int(width), another):
            for theirs in (f"official/desdis-{other}", f"authors-{other}"):  # the latter in the pipeline's benchmark
                if other in widths and theirs in names and (ours, theirs) not in pairs:
                    pairs.append((ours, theirs))
    return pairs


def differences(rows: Iterable[Row], pairs: Sequence[tuple[str, str]]) -> list[Row]:
    """The first method's score less the second's, scene by scene, with the bootstrap's interval over scenes."""
    from pipeline.metrics.statistics import paired_difference

    by_group: dict[str, dict[str, dict[str, dict[str, float]]]] = {}
    for row in rows:
        by_group.setdefault(row["group"], {}).setdefault(row["method"], {})[row["scene"]] = row["scores"]
    found = []
    for a, b in pairs:
        for group, methods in by_group.items():
            scenes = sorted(methods.get(a, {}).keys() & methods.get(b, {}).keys())
            for key in (*COMPARED, *PIPELINE):
                both = [s for s in scenes if key in methods[a][s] and key in methods[b][s]]
                if both:
                    ours, theirs = (np.array([methods[method][s][key] for s in both]) for method in (a, b))
                    d = paired_difference(ours, theirs)
                    better = int((ours < theirs if key in SMALLER_IS_BETTER else ours > theirs).sum())
                    found.append(
                        {"a": a, "b": b, "group": group, "score": key, "scenes": d.n, "mean": d.mean, "low": d.low,
                         "high": d.high, "better": better}
                    )  # fmt: skip
    return found


def markdown(result: Row) -> str:
    """All tables."""
    text = ["| method | parameters | multiply-adds a patch | patches/s of one core |", "| --- | --- | --- | --- |"]
    for m in result["methods"]:
        parameters = "-" if m["parameters"] is None else f"{m['parameters']:,}"
        adds = f"{m['multiply_adds'] / 1e6:.2f} M" if m["multiply_adds"] else "-"  # none where no layer is counted
        text.append(f"| {m['name']} | {parameters} | {adds} | {m['patches_per_second']:,} |")
    groups = list(dict.fromkeys(row["group"] for row in result["rows"]))
    for group in groups:
        rows = [row for row in result["rows"] if row["group"] == group]
        methods = list(dict.fromkeys(row["method"] for row in rows))
        keys = [k for k in (*COLUMNS, *PIPELINE) if any(k in row["scores"] for row in rows)]
        scenes = len({row["scene"] for row in rows})
        text += ["", f"**{group}**, mean over {scenes} scenes", ""]
        text.append("| method | " + " | ".join(COLUMNS.get(k, k) for k in keys) + " |")
        text.append("| --- |" + " --- |" * len(keys))
        for method in methods:
            cells = [
                _mean([r["scores"][k] for r in rows if r["method"] == method and k in r["scores"]], k) for k in keys
            ]
            text.append(f"| {method} | " + " | ".join(cells) + " |")
    if result["differences"]:
        text += ["", "Differences, scene by scene: mean [95 % interval], better in how many scenes", ""]
        text += ["| first − second | where | score | difference | better |", "| --- | --- | --- | --- | --- |"]
        for d in result["differences"]:
            unit = 100 if d["score"] in SMALLER_IS_BETTER else 1
            places = 0 if d["score"] == "points3D" else 2 if unit == 100 else 3
            mean, low, high = (f"{unit * d[k]:+.{places}f}" for k in ("mean", "low", "high"))
            text.append(
                f"| {d['a']} − {d['b']} | {d['group']} | {COLUMNS.get(d['score'], d['score'])} "
                f"| {mean} [{low}, {high}] | {d['better']} of {d['scenes']} |"
            )
    return "\n".join(text) + "\n"


def _mean(values: list[float], key: str) -> str:
    if not values:
        return "-"
    mean = float(np.mean(values))
    return f"{100 * mean:.2f}" if key in SMALLER_IS_BETTER else f"{mean:.0f}" if key == "points3D" else f"{mean:.3f}"


def _tasks(sets: Sequence[Path], planes: Path | None) -> Iterable[Any]:
    from desdis.patchsets import read_patch_set
    from desdis.validation import set_names
    from pipeline.protocols.patch_scores import plane_tasks, set_tasks

    for folder, name in zip(sets, set_names(sets), strict=True):
        yield from set_tasks(read_patch_set(folder), name)
    if planes:
        yield from plane_tasks(planes)


def _pipeline_rows(config: Path, output: Path, data: Path, weights: Path) -> list[Row]:
    """The program's own benchmark, each scene's mean over seeds as a row."""
    from pipeline.benchmark import run_benchmark
    from pipeline.protocols.cells import Cell
    from pipeline.protocols.recipe import load_benchmark

    benchmark = load_benchmark(config, data, weights)
    folder = output / "pipeline"
    run_benchmark(benchmark, folder, {s.name for s in benchmark.scenes}, {m.name for m in benchmark.methods})
    rows = []
    for scene in benchmark.scenes:
        for method in benchmark.methods:
            cell = Cell(benchmark, scene, method, folder)
            seeds = [found["scores"] for seed in benchmark.seeds if (found := cell.read(seed)) is not None]
            scores = {
                k: float(np.mean([s[k] for s in seeds])) for k in PIPELINE if seeds and all(k in s for s in seeds)
            }
            if scores:
                rows.append({"method": method.name, "group": "pipeline", "scene": scene.name, "scores": scores})
    return rows


def _parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(
        prog="python -m pipeline.benchmark_descriptors", description=__doc__, allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    made.add_argument(
        "--methods", nargs="+", default=list(DEFAULT_METHODS), metavar="METHOD",
        help="desdis-32, official/desdis-32, a file of weights, rootsift, tfeat:FILE, mkd:FILE, hardnet:FILE ...",
    )  # fmt: skip
    made.add_argument("--sets", type=Path, nargs="*", default=[], metavar="SET", help="patch sets")
    made.add_argument("--planes", type=Path, metavar="DIR", help="folder of sequences with homographies")
    made.add_argument("--pipeline", type=Path, metavar="CONFIG", help="a benchmark's YAML (configs/benchmark/)")
    made.add_argument("--compare", nargs=2, action="append", default=[], metavar=("A", "B"), help="A against B")
    made.add_argument("--output", type=Path, default=Path("benchmarks/descriptors"), metavar="DIR")
    made.add_argument("--data", type=Path, default=DATA, help="the photograph sets' folder, {data} in CONFIG")
    made.add_argument("--weights", type=Path, default=WEIGHTS, help="the weights' folder, {weights} in CONFIG")
    return made


if __name__ == "__main__":
    sys.exit(main())
