"""Kill a run at random moments, resume it, and compare with an undisturbed one.

    python tests/kill_and_resume.py [--images DIR] [--kills 20] [KEY=VALUE ...]

Without --images a small scene is rendered. Each of the kills begins a fresh output, is killed with SIGKILL after a
random share of the undisturbed run's time, opens the HDF5 files that the kill left, and is run to the end. Features,
matches and the model's poses must be bit-identical. Exit status 0 when all are.
"""

import argparse
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))


def command(images: Path, output: Path, options: list[str]) -> list[str]:
    return [sys.executable, str(ROOT / "run_reconstruction.py"), "--images", str(images), "--output", str(output),
            "deterministic=true", *options]  # fmt: skip


def contents(output: Path) -> dict[str, bytes]:
    """Every array of the HDF5 files and every pose, as bytes by name."""
    import h5py

    from pipeline.mappers.models import read_poses

    found: dict[str, bytes] = {}
    for name in ("features.h5", "matches.h5"):
        with h5py.File(output / name, "r") as file:
            file.visititems(
                lambda key, item, name=name: (
                    found.__setitem__(f"{name}/{key}", item[()].tobytes()) if isinstance(item, h5py.Dataset) else None
                )
            )
    for model in sorted((output / "sparse").iterdir()):
        for name, pose in read_poses(model).items():
            found[f"{model.name}/{name}"] = pose.R.tobytes() + pose.t.tobytes()
    return found


def open_what_is_there(output: Path) -> None:
    """The HDF5 files that a kill left must open and be readable."""
    import h5py

    for name in ("features.h5", "matches.h5"):
        if (output / name).exists() and (output / name).stat().st_size:
            with h5py.File(output / name, "r") as file:
                file.visititems(lambda _, item: item[()] if isinstance(item, h5py.Dataset) else None)


def differences(images: Path, scratch: Path, kills: int, options: list[str], seed: int = 0) -> list[str]:
    """What differs between killed and undisturbed runs: empty when nothing does."""
    start = time.monotonic()
    subprocess.run(command(images, scratch / "whole", options), check=True, stdout=subprocess.DEVNULL)
    whole_time = time.monotonic() - start
    whole = contents(scratch / "whole")
    assert any(key.startswith("0/") for key in whole), "the undisturbed run gave no model"
    chance = random.Random(seed)
    wrong = []
    for kill in range(kills):
        output = scratch / f"killed{kill}"
        after = chance.uniform(0.05, 0.95) * whole_time
        process = subprocess.Popen(command(images, output, options), stdout=subprocess.DEVNULL)
        try:
            process.wait(timeout=after)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.wait()
        open_what_is_there(output)
        resumed = subprocess.run(command(images, output, options), stdout=subprocess.DEVNULL).returncode
        same = resumed == 0 and contents(output) == whole
        print(f"kill {kill + 1}: after {after:.1f} s, resumed: {'the same' if same else 'DIFFERENT'}", flush=True)
        if not same:
            wrong.append(f"killed after {after:.1f} s: exit {resumed}")
    return wrong


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=Path)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("options", nargs="*", metavar="KEY=VALUE")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        images = given.images
        if images is None:
            from datasets.scenes.rendered import render_scene

            render_scene(scratch / "scene")
            images = scratch / "scene" / "images"
        wrong = differences(images, scratch, given.kills, given.options)
    print(f"{given.kills - len(wrong)} of {given.kills} killed runs gave the same features, matches and poses")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
