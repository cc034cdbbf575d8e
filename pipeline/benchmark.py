"""Scenes x methods x seeds in one run: `python -m pipeline.benchmark --config configs/benchmark/NAME.yaml`.

In: a benchmark's YAML (pipeline/protocols/recipe.py). Out, under --output: cells/SCENE/METHOD/seed-N.json as soon as
each is done (running again does what is missing), runs/ with the last seed's reconstruction, results.json, results.md,
benchmark.html.

Every scene x method runs in a process of its own: whatever it does to it, the benchmark goes on and counts a failure.
"""

import argparse
import json
import multiprocessing
import os
import platform
import signal
import sys
from pathlib import Path
from typing import Any

from desdis.errors import UserError, command
from pipeline.protocols.cells import Cell, run_cell
from pipeline.protocols.recipe import Benchmark, Scene, load_benchmark, missing_files
from pipeline.protocols.tables import markdown, results
from pipeline.workspace import write_atomically


@command
def main(arguments: list[str] | None = None) -> int:
    """The command; returns its exit status (0 done, 2 a user's mistake, 130 interrupted)."""
    args = _parser().parse_args(arguments)
    output = args.output or Path("benchmarks") / args.config.stem
    benchmark = load_benchmark(args.config, args.data, args.weights)
    scenes = _chosen("scene", args.scenes, [scene.name for scene in benchmark.scenes])
    methods = _chosen("method", args.methods, [method.name for method in benchmark.methods])
    result = run_benchmark(benchmark, output, scenes, methods, args.retry)
    print(markdown(result))
    print(f"{output}: results.json, results.md, benchmark.html")
    return 0


def run_benchmark(
    benchmark: Benchmark, output: Path, scenes: set[str], methods: set[str], retry: bool = False
) -> dict[str, Any]:
    """Run the cells of these scenes and methods that have no result yet; returns (and writes) the results of all.

    Methods whose weights and scenes whose photographs, reference or cameras are missing are left out by name. With
    `retry`, failed cells run again.
    """
    absent = {m.name: missing for m in benchmark.methods if (missing := missing_files(m.recipe))}
    nowhere = {scene.name: missing for scene in benchmark.scenes if (missing := _missing(scene))}
    left_out = [
        {"what": what, "name": name, "reason": f"there is no {', '.join(missing)}"}
        for what, items in (("method", absent), ("scene", nowhere))
        for name, missing in items.items()
    ]
    if len(nowhere) == len(benchmark.scenes) or len(absent) == len(benchmark.methods):
        reasons = "; ".join(f"{item['name']}: {item['reason']}" for item in left_out)
        raise UserError(f"nothing can be run ({reasons}); give --data and --weights")
    cells = [
        Cell(benchmark, scene, method, output)
        for scene in benchmark.scenes
        for method in benchmark.asked(scene)
        if scene.name not in nowhere and method.name not in absent
    ]
    for number, cell in enumerate(cells, 1):
        if cell.scene.name not in scenes or cell.method.name not in methods:
            continue
        old = {seed: cell.read(seed) for seed in benchmark.seeds}
        todo = [seed for seed, r in old.items() if r is None or (retry and r["status"] == "failed")]
        if todo:
            print(f"[{number} of {len(cells)}] {cell.scene.name} / {cell.method.name}: seeds {todo}", flush=True)
            _run_apart(cell, todo)
            _say(cell)
    from pipeline.html.benchmark import write_benchmark_html

    done = [result for cell in cells for seed in benchmark.seeds if (result := cell.read(seed)) is not None]
    result = results(benchmark, done, left_out, _about())
    output.mkdir(parents=True, exist_ok=True)
    write_atomically(output / "results.json", json.dumps(result, indent=1, allow_nan=False))
    write_atomically(output / "results.md", markdown(result))
    write_benchmark_html(output, result)
    return result


def _run_apart(cell: Cell, seeds: list[int]) -> None:
    """Run the cell in a fresh process; what it did not live to write is written down as a failure."""
    for seed in seeds:
        cell.file(seed).unlink(missing_ok=True)
    cell.log.parent.mkdir(parents=True, exist_ok=True)
    process = _processes().Process(target=_in_child, args=(cell, seeds))
    process.start()
    try:
        process.join(cell.benchmark.timeout_minutes * 60)
        late = process.is_alive()
    finally:
        if process.is_alive():
            process.kill()  # not TERM: pycolmap's crash handler may sit in a deadlock that ignores it
        process.join()
    why = f"stopped after {cell.benchmark.timeout_minutes:g} minutes" if late else _ending(process.exitcode)
    for seed in seeds:
        if cell.read(seed) is None:
            cell.fail(seed, f"{why}; see {cell.log}")


def _processes() -> Any:
    """Where cells' processes come from: on Linux forked from one that has loaded the libraries (seconds a cell) and
    done nothing with them, elsewhere started anew."""
    if sys.platform != "linux":
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["pipeline.run", "cv2", "torch", "pycolmap", "kornia.feature"])
    return context


def _in_child(cell: Cell, seeds: list[int]) -> None:
    """Everything that libraries print goes to the cell's log."""
    with open(cell.log, "a", encoding="utf-8") as log:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
        run_cell(cell, seeds)


def _ending(exitcode: int | None) -> str:
    if exitcode is not None and exitcode < 0:
        return f"the process was ended by {signal.Signals(-exitcode).name}"
    return f"the process ended with status {exitcode}"


def _missing(scene: Scene) -> list[str]:
    """What a scene names and what is not there."""
    found = [] if Path(scene.images).is_dir() else [scene.images]
    return found + [path for path in (scene.reference, scene.cameras) if path and not Path(path).exists()]


def _say(cell: Cell) -> None:
    for seed in cell.benchmark.seeds:
        result = cell.read(seed)
        if result is None:
            continue
        shown = [f"{name} {value:.3f}" for name, value in list(result["scores"].items())[:5]]
        print(f"    seed {seed}: {result['status']} {', '.join(shown)}{result.get('error', '')}", flush=True)


def _about() -> dict[str, Any]:
    from pipeline.stages.report import versions

    return {"versions": versions(), "cpu_count": os.cpu_count(), "machine": platform.machine()}


def _chosen(what: str, wanted: str | None, known: list[str]) -> set[str]:
    names = known if wanted is None else [name for name in wanted.split(",") if name]
    for name in names:
        if name not in known:
            raise UserError(f"--{what}s {name}: the benchmark has {', '.join(known)}")
    return set(names)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m pipeline.benchmark", description="Scenes x methods x seeds in one run, with tables."
    )
    parser.add_argument(
        "--config", type=Path, required=True, help="the benchmark, such as configs/benchmark/quick.yaml"
    )
    parser.add_argument("--output", type=Path, help="folder of the results (default benchmarks/NAME)")
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), help="folder of the photograph sets")
    parser.add_argument("--weights", type=Path, default=Path("../shared/weights"), help="folder of weights")
    parser.add_argument("--scenes", help="run only these, separated by commas")
    parser.add_argument("--methods", help="run only these, separated by commas")
    parser.add_argument("--retry", action="store_true", help="run failed cells again")
    return parser


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that the running cell's process ends too
    sys.exit(main())
