"""The front door as a script meets it: help, version, exit statuses."""

import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from desdis._version import __version__

ROOT = Path(__file__).resolve().parents[1]
HEAVY = ("cv2", "faiss", "h5py", "kornia", "onnxruntime", "pandas", "plotly", "pycolmap", "scipy", "torch")
PROMISED = (
    "detector.name", "detector.max_keypoints", "descriptor.name", "descriptor.weights", "images.max_size",
    "orientation", "pairs.name", "matcher.max_ratio", "mapper.name", "seed", "deterministic", "device",
)  # fmt: skip


def reconstruct(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "run_reconstruction.py"), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


def one_line_error(done: subprocess.CompletedProcess[str]) -> str:
    assert done.returncode == 2, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    last = done.stderr.strip().splitlines()[-1]
    assert "error:" in last
    return last


def noise(folder: Path, count: int) -> Path:
    """Photographs that have nothing in common."""
    folder.mkdir()
    for index in range(count):
        pixels = np.random.default_rng(index).integers(0, 256, (24, 32), dtype=np.uint8)
        cv2.imwrite(str(folder / f"{index}.png"), cv2.resize(pixels, (320, 240), interpolation=cv2.INTER_CUBIC))
    return folder


def test_help_names_every_promised_option():
    done = reconstruct("--help")
    assert done.returncode == 0, done.stderr
    for name in PROMISED:
        assert f" {name}=" in done.stdout
    for flag in ("--images", "--output", "--config", "--reference", "--cameras", "--masks", "--strict", "--overwrite"):
        assert flag in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 200


@pytest.mark.parametrize("argument", ["--help", "--version"])
def test_help_and_version_load_nothing_heavy(argument):
    code = (
        f"import sys, runpy; sys.argv = ['x', {argument!r}]\n"
        f"try: runpy.run_path({str(ROOT / 'run_reconstruction.py')!r}, run_name='__main__')\n"
        "except SystemExit as end: assert not end.code\n"
        f"print(*sorted(set({HEAVY!r}) & set(sys.modules)), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert done.stderr.strip() == ""


def test_version():
    assert reconstruct("--version").stdout.strip() == f"desdis {__version__}"


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (("--images", "no/such/folder"), "no/such/folder"),
        (("detector.nam=dog",), "detector.nam"),
        (("detector.max_keypoints=-1",), "detector.max_keypoints"),
        (("descriptor.name=surf",), "descriptor.name"),
        (("seed",), "seed"),
        (("--device", "tpu"), "device"),
        (("--config", "no_such_recipe.yaml"), "no_such_recipe.yaml"),
        (("--no-such-flag",), "--no-such-flag"),
        (("--cameras", "no_such_cameras.txt"), "no_such_cameras.txt"),
        (("--reference", "no_such_reference.txt"), "no_such_reference.txt"),
    ],
)
def test_mistakes_are_one_line_and_status_2(tmp_path, words, named):
    images = noise(tmp_path / "images", 2)
    arguments = words if "--images" in words else ("--images", images, *words)
    done = reconstruct(*arguments, "--output", tmp_path / "output")
    assert named in one_line_error(done)


def test_images_are_required():
    assert "--images" in one_line_error(reconstruct())


def test_an_empty_folder_is_a_mistake(tmp_path):
    (tmp_path / "empty").mkdir()
    assert "empty" in one_line_error(reconstruct("--images", tmp_path / "empty", "--output", tmp_path / "output"))


def test_nothing_to_reconstruct_is_status_3(tmp_path):
    images, output = noise(tmp_path / "images", 3), tmp_path / "output"
    done = reconstruct("--images", images, "--output", output, "descriptor.name=rootsift", "detector.max_keypoints=200")
    assert done.returncode == 3, done.stdout + done.stderr
    assert (output / "report.json").is_file()
