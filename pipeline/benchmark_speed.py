"""Ourselves and the peers on the same photographs, in turns, on this machine.

    python -m pipeline.benchmark_speed --images DIR [--peers DIR] [--output docs/benchmarks-speed.md]

Prints medians and ratios for describing, cutting patches, matching, features of a photograph, whole runs against
pycolmap's SIFT pipeline, memory as the number of photographs grows, and what a GPU makes of it where there is one.
"""

import argparse
import os
import platform
import sys
from collections.abc import Iterator
from pathlib import Path

from desdis.errors import UserError, command

PARTS = ("describe", "patches", "match", "features", "runs", "growth", "stages", "gpu")
SETTINGS = ((1536, 8000), (1024, 2048))  # long side in pixels, keypoints
# With few, what pycolmap does once a photograph (its index) would be most of the time of a pair.
STAGE_PHOTOGRAPHS = 11


@command
def main(arguments: list[str] | None = None) -> int:
    """The command; returns its exit status (0 done, 2 a user's mistake)."""
    args = parser().parse_args(arguments)
    os.environ["OMP_NUM_THREADS"] = str(args.threads)  # before the libraries read it
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    if args.output:  # before hours of measuring, not after
        try:
            args.output.parent.mkdir(parents=True, exist_ok=True)
            args.output.open("a").close()
        except OSError as error:
            raise UserError(f"--output {args.output} cannot be written ({error.strerror}); give another") from error
    document = [heading(arguments if arguments is not None else sys.argv[1:], args)]
    for text in sections(args):
        print(text, flush=True)
        document.append(text)
        if args.output:
            args.output.write_text("\n\n".join(document) + "\n", encoding="utf-8")
    return 0


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(prog="python -m pipeline.benchmark_speed", description=__doc__,
                                   formatter_class=argparse.RawDescriptionHelpFormatter)  # fmt: skip
    made.add_argument("--images", type=Path, action="append", default=[], help="photographs (may be given again)")
    made.add_argument(
        "--reference", type=Path, help="known poses of the first --images, for the accuracy of whole runs"
    )
    made.add_argument("--peers", type=Path, help="folder with aliked-n16.pth and XFeat's weights")
    made.add_argument("--weights", action="append", help="ours to time (names or files; default desdis-32, desdis-8)")
    made.add_argument("--keypoints", type=int, action="append", help="of whole runs, one for each --images (8000)")
    made.add_argument("--only", nargs="+", choices=PARTS, default=PARTS, help="parts to run")
    made.add_argument("--rounds", type=int, default=5, help="turns of each contender (5)")
    made.add_argument("--photographs", type=int, default=3, help="taken from the first --images for single timings (3)")
    made.add_argument("--run-rounds", type=int, default=2, help="turns of whole runs (2)")
    made.add_argument("--growth", type=int, nargs="+", default=[32, 128, 512], help="numbers of photographs")
    made.add_argument("--stages", type=int, nargs="+", default=[10, 30, 108], help="numbers of photographs")
    made.add_argument("--threads", type=int, default=os.cpu_count() or 1, help="CPU threads of everybody (all cores)")
    made.add_argument("--output", type=Path, help="markdown file to write")
    return made


def sections(args: argparse.Namespace) -> Iterator[str]:
    """One piece of markdown after another."""
    from pipeline.speed import timing

    timing.set_threads(args.threads)
    if "describe" in args.only:
        from pipeline.speed.describing import describing

        yield "## Patches in memory to descriptors\n\n" + describing(args.rounds)
    if not args.images:
        if args.only != PARTS and args.only != ["describe"]:
            raise UserError("give photographs with --images DIR")
        return
    photographs = read(args.images[0], args.photographs)
    weights = args.weights or ["desdis-32", "desdis-8"]
    if "gpu" in args.only:
        yield "## On a GPU\n\n" + of_gpu(shrunk(photographs[0], SETTINGS[0][0]), args.rounds)
    for side, keypoints in SETTINGS:
        yield from of_photographs(args, [shrunk(rgb, side) for rgb in photographs], weights, side, keypoints)
    if "runs" in args.only:
        from pipeline.speed.whole import compare

        budgets = args.keypoints or []
        for k, images in enumerate(args.images):
            keypoints = budgets[k] if k < len(budgets) else 8000
            recipes = {f"ours, {name_of(file)}": [f"descriptor.weights={file}"] for file in weights}
            reference = args.reference if k == 0 else None
            yield f"## Whole run: {images.parent.name}/{images.name}, {keypoints:,} keypoints\n\n" + compare(
                images, reference, keypoints, recipes, args.run_rounds, args.threads
            )
    if "growth" in args.only:
        from pipeline.speed.whole import scaling

        yield "## Growth with the number of photographs (512 pixels, 1,024 keypoints)\n\n" + scaling(
            args.images[0], args.growth, [f"descriptor.weights={weights[0]}"], args.threads
        )

    if "stages" in args.only:
        from pipeline.speed.whole import stages_by_count

        keypoints = args.keypoints[0] if args.keypoints else 8000
        yield f"## Where the time goes: {keypoints:,} keypoints, all pairs\n\n" + stages_by_count(
            args.images[0], args.stages, keypoints, [f"descriptor.weights={weights[0]}"], args.threads
        )


def of_gpu(rgb, rounds: int) -> str:
    """The GPU's figures, where there is one."""
    import cv2
    import torch

    from pipeline.speed.on_device import on_device

    if not torch.cuda.is_available():
        return "Not measured: torch finds none here."
    grey = cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY)
    return f"{torch.cuda.get_device_name()}\n\n" + on_device(grey, SETTINGS[0][1], "cuda", rounds)


def of_photographs(
    args: argparse.Namespace, photographs: list, weights: list[str], side: int, keypoints: int
) -> Iterator[str]:
    """The parts that are timed on single photographs of one size."""
    import cv2

    import desdis
    from pipeline.speed.describing import cutting, detect
    from pipeline.speed.extracting import extracting
    from pipeline.speed.matching import matching, matching_stages

    what = f"{side:,} pixels, {keypoints:,} keypoints"
    greys = [cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY) for rgb in photographs]
    if "patches" in args.only:
        yield f"## Photograph and frames to patches: {what}\n\n" + cutting(greys, keypoints, args.rounds)
    if "match" in args.only:
        describer = desdis.load(weights[0], device="cpu")
        sets = [describer.describe(grey, detect(grey, keypoints)) for grey in (greys[0], greys[1], greys[-1])]
        yield f"## Matching, neighbouring photographs: {what}\n\n" + matching(sets[0], sets[1], args.rounds)
        yield f"## Matching, distant photographs: {what}\n\n" + matching(sets[0], sets[2], args.rounds)
        many = [cv2.cvtColor(shrunk(rgb, side), cv2.COLOR_RGB2GRAY) for rgb in read(args.images[0], STAGE_PHOTOGRAPHS)]
        yield f"## Matching, from file to file: {what}\n\n" + matching_stages(
            many, keypoints, describer, args.threads, args.rounds
        )
    if "features" in args.only:
        describers = {f"ours, {name_of(file)}": desdis.load(file, device="cpu") for file in weights}
        yield f"## Features of a photograph, all in: {what}\n\n" + extracting(
            photographs, keypoints, describers, args.peers, args.rounds
        )


def read(folder: Path, count: int) -> list:
    """The first, second, middle and last (and so on) photographs of a folder, (H, W, 3) uint8."""
    import cv2

    files = sorted(p for p in folder.rglob("*") if p.suffix.lower() in (".jpg", ".jpeg", ".png"))
    if len(files) < 2:
        raise UserError(f"{folder}: at least two photographs are needed, {len(files)} found")
    chosen = sorted({0, 1, *(round(k * (len(files) - 1) / max(1, count - 1)) for k in range(count))})[:count]
    found = [cv2.imread(str(files[k])) for k in chosen]
    return [cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB) for bgr in found if bgr is not None]


def shrunk(rgb, side: int):
    """The photograph at most `side` pixels long."""
    import cv2

    ratio = min(1.0, side / max(rgb.shape[:2]))
    return rgb if ratio == 1 else cv2.resize(rgb, None, fx=ratio, fy=ratio, interpolation=cv2.INTER_AREA)


def name_of(weights: str) -> str:
    return Path(weights).stem


def heading(arguments: list[str], args: argparse.Namespace) -> str:
    """What was run, on what."""
    load = ", ".join(f"{value:.1f}" for value in os.getloadavg())
    return (
        "# Speed\n\nMade by `python -m pipeline.benchmark_speed "
        + " ".join(arguments)
        + f"`\n\n{processor()}, {args.threads} threads, {platform.system()}; load average at the start {load}. "
        "Contenders take turns; medians of wall and of processor time (all threads)."
    )


def processor() -> str:
    """The processor's name where the system tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


if __name__ == "__main__":
    sys.exit(main())
