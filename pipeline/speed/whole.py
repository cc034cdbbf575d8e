"""Whole runs, each in a process of its own so that memory and imports are its own: ours and pycolmap's SIFT pipeline.

python -m pipeline.speed.whole ours|pycolmap --images DIR --output DIR ...    (one run, JSON on the last line)
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from pipeline.speed.timing import table

STAGES = ("extract", "orient", "match", "verify", "reconstruct")
ROOT = Path(__file__).parents[2]


def compare(images: Path, reference: Path | None, keypoints: int, recipes: dict[str, list[str]], rounds: int,
            threads: int) -> str:  # fmt: skip
    """The table of one photograph set: recipes (KEY=VALUE words by name) against pycolmap's pipeline, in turns."""
    runs: dict[str, list[dict[str, Any]]] = {"pycolmap SIFT": []} | {name: [] for name in recipes}
    for _ in range(rounds):
        for name, results in runs.items():
            words = recipes.get(name)
            method = "pycolmap" if words is None else "ours"
            results.append(child(method, images, words or [], keypoints, threads, reference))
    rows = []
    for name, results in runs.items():
        middle = sorted(results, key=lambda r: r["wall"])[len(results) // 2]
        stages = [f"{middle['stages'].get(stage, 0.0):.1f}" for stage in STAGES]
        ratios = [theirs["wall"] / ours["wall"] for theirs, ours in zip(runs["pycolmap SIFT"], results, strict=True)]
        cpu = [theirs["cpu"] / ours["cpu"] for theirs, ours in zip(runs["pycolmap SIFT"], results, strict=True)]
        accuracy = "-" if middle.get("mAA10") is None else f"{middle['mAA10']:.3f} / {middle['median_error_deg']:.3f}°"
        rows.append(
            [
                name, *stages, f"{middle['wall']:.1f}", f"{median(ratios):.2f}", f"{median(cpu):.2f}",
                f"{middle['peak_mib']:.0f}", f"{middle['registered']}/{middle['images']}", str(middle["points"]),
                f"{middle['track']:.2f}", f"{middle['error_px']:.2f}", accuracy,
            ]
        )  # fmt: skip
    header = [
        "run", *(f"{stage} s" for stage in STAGES), "all s", "× faster", "× by CPU time", "peak MiB", "registered",
        "points", "track", "error px", "mAA(10°) / median",
    ]  # fmt: skip
    return table(header, rows) + "\n\npycolmap verifies while it matches: both are in its match seconds."


SEQUENTIAL = ("pairs.name=sequential", "pairs.overlap=5", "pairs.quadratic=false", "pairs.loop_step=0")


def stages_by_count(images: Path, counts: list[int], keypoints: int, words: list[str], threads: int) -> str:
    """Seconds of each stage for the first `count` photographs, all pairs; for more than there are, the photographs of
    `scaling`, whole runs."""
    files = photographs_of(images)
    rows = []
    with tempfile.TemporaryDirectory() as scratch:
        for count in counts:
            folder, name, more = Path(scratch) / str(count), f"{count}, all pairs", words
            budget = keypoints
            if count > len(files):
                repeat_with_jitter(images, count, folder)
                name, more, budget = f"{count}, repeated, each with its next five", [*words, *SEQUENTIAL], 1024
            else:
                folder.mkdir()
                for file in files[:count]:
                    (folder / file.name).symlink_to(file.resolve())
            result = child("ours", folder, more, budget, threads, None)
            seconds = result["stages"]
            total = sum(seconds.values())
            shown = [*(seconds.get(stage, 0.0) for stage in STAGES)]
            shown.append(total - sum(shown))
            rows.append([name, *(f"{s:.1f} ({s / total:.0%})" for s in shown), f"{total:.1f}",
                         str(result["registered"])])  # fmt: skip
    header = ["photographs", *(f"{stage} s" for stage in STAGES), "others s", "all stages s", "registered"]
    return table(header, rows)


def photographs_of(folder: Path) -> list[Path]:
    return sorted(p for p in folder.rglob("*") if p.suffix.lower() in (".jpg", ".jpeg", ".png"))


def scaling(images: Path, counts: list[int], words: list[str], threads: int) -> str:
    """Extraction and matching (each photograph with its next five) as the number of photographs grows."""
    rows, seconds = [], []
    with tempfile.TemporaryDirectory() as scratch:
        for count in counts:
            folder = Path(scratch) / str(count)
            repeat_with_jitter(images, count, folder)
            result = child("ours", folder, [*words, *SEQUENTIAL], 1024, threads, None, last="match")
            stages, memory = result["stages"], result["memory"]
            seconds.append([stages["extract"], stages["match"]])
            rows.append(
                [str(count), f"{stages['extract']:.1f}", f"{memory['extract']:.0f}", f"{stages['match']:.1f}",
                 f"{memory['match']:.0f}"]
            )  # fmt: skip
    header = ["photographs", "extract s", "extract peak MiB", "match s", "match peak MiB"]
    text = table(header, rows)
    if len(counts) > 1:
        slopes = np.polyfit(np.log(counts), np.log(seconds), 1)[0]
        text += f"\n\nSeconds grow with the number of photographs to the power {slopes[0]:.2f} (extraction), "
        text += f"{slopes[1]:.2f} (matching, five pairs a photograph)."
    return text


def repeat_with_jitter(images: Path, count: int, folder: Path, side: int = 512, seed: int = 0) -> None:
    """`count` photographs of at most `side` pixels: those of `images` again and again, shifted and brightened."""
    import cv2

    rng = np.random.default_rng(seed)
    files = photographs_of(images)
    folder.mkdir(parents=True)
    for k in range(count):
        bgr = cv2.imread(str(files[k % len(files)]))
        assert bgr is not None
        ratio = (side + 16) / max(bgr.shape)
        bgr = cv2.resize(bgr, None, fx=ratio, fy=ratio, interpolation=cv2.INTER_AREA)
        y, x = rng.integers(0, 17, 2)
        part = bgr[y : bgr.shape[0] - 16 + y, x : bgr.shape[1] - 16 + x].astype(np.float32) * rng.uniform(0.8, 1.2)
        cv2.imwrite(str(folder / f"{k:05d}.jpg"), np.clip(part, 0, 255).astype(np.uint8))


def child(
    method: str, images: Path, words: list[str], keypoints: int, threads: int, reference: Path | None,
    last: str = "report",
) -> dict[str, Any]:  # fmt: skip
    """One run in a new process; what it measured."""
    with tempfile.TemporaryDirectory() as scratch:
        command = [
            sys.executable, "-m", "pipeline.speed.whole", method, "--images", str(images), "--output", f"{scratch}/run",
            "--keypoints", str(keypoints), "--threads", str(threads), "--last", last, *words,
        ]  # fmt: skip
        if reference:
            command += ["--reference", str(reference)]
        environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "OMP_WAIT_POLICY": "PASSIVE"}
        environment["PYTHONPATH"] = os.pathsep.join([str(ROOT), environment.get("PYTHONPATH", "")])
        done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
        if done.returncode:
            raise RuntimeError(f"{' '.join(command)} failed:\n{done.stderr[-2000:]}")
        return json.loads(done.stdout.splitlines()[-1])


def run_ours(args: argparse.Namespace) -> dict[str, Any]:
    """Our pipeline, from the folder to the report."""
    from pipeline.recipe import load_recipe
    from pipeline.run import run
    from pipeline.workspace import Workspace

    words = [f"detector.max_keypoints={args.keypoints}", f"threads={args.threads}", *args.words]
    run(load_recipe(None, words), args.images, args.output, last=args.last)
    timings = Workspace(args.output).timings()
    result: dict[str, Any] = {
        "stages": {name: entry["seconds"] for name, entry in timings.items()},
        "memory": {name: entry["peak_memory_mib"] for name, entry in timings.items()},
    }
    return result | ({} if args.last == "match" else quality(args))


def run_pycolmap(args: argparse.Namespace) -> dict[str, Any]:
    """pycolmap's own SIFT, exhaustive matching and incremental mapping, as it comes."""
    import zlib  # noqa: F401  before pycolmap, whose own copy of it corrupts the heap otherwise

    import cv2  # noqa: F401

    from pipeline.protocols import colmap_sift
    from pipeline.workspace import Workspace, peak_memory_mib, reset_peak_memory

    work = Workspace(args.output)
    seconds, memory = {}, {}

    def timed(name: str, call: Callable[[], Any]) -> None:
        reset_peak_memory()
        start = time.perf_counter()
        call()
        seconds[name], memory[name] = time.perf_counter() - start, peak_memory_mib()

    timed("extract", lambda: colmap_sift.extract(args.images, work.database, {}, args.keypoints, args.threads))
    timed("match", lambda: colmap_sift.match(work.database, 0, args.threads))
    timed("reconstruct", lambda: colmap_sift.reconstruct(args.images, work, False, 0, args.threads))
    return {"stages": seconds, "memory": memory} | quality(args)


def quality(args: argparse.Namespace) -> dict[str, Any]:
    """The largest model, and its poses against the reference where there is one (intrinsics are never given)."""
    from datasets.scenes.reference import read_reference
    from pipeline.mappers.models import read_models, read_poses
    from pipeline.stages.evaluate import evaluate

    names = [path.relative_to(args.images).as_posix() for path in photographs_of(args.images)]
    models = read_models(args.output / "sparse") if (args.output / "sparse").exists() else []
    result: dict[str, Any] = {"images": len(names), "registered": 0, "points": 0, "track": 0.0, "error_px": 0.0}
    if models:
        best = models[0]
        result |= {
            "registered": len(best.registered), "points": best.points3D, "track": best.mean_track_length,
            "error_px": best.mean_reprojection_error_px,
        }  # fmt: skip
    if args.reference:
        poses = read_poses(models[0].path) if models else {}
        accuracy = evaluate(poses, read_reference(args.reference, names), set(names))
        result |= {"mAA10": accuracy.maa_10, "median_error_deg": accuracy.median_pose_error_deg}
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("method", choices=["ours", "pycolmap"])
    parser.add_argument("words", nargs="*", metavar="KEY=VALUE")
    parser.add_argument("--images", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--reference", type=Path)
    parser.add_argument("--keypoints", type=int, default=8000)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--last", choices=["match", "report"], default="report")
    args = parser.parse_intermixed_args()
    wall, cpu = time.perf_counter(), time.process_time()
    result = run_ours(args) if args.method == "ours" else run_pycolmap(args)
    result |= {"wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu}
    result["peak_mib"] = max(result["memory"].values())
    print(json.dumps(result))


if __name__ == "__main__":
    main()
