"""The wheel in a fresh environment, beside a package that is also called `datasets`."""

import json
import os
import subprocess
import sys
import sysconfig
import tomllib
import zipfile
from pathlib import Path

import pytest

from desdis._version import __version__
from hatch_build import opencv_requirement

ROOT = Path(__file__).resolve().parents[1]


def run(*command: object, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """The command with nothing of this checkout on Python's path."""
    inherited = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    return subprocess.run(
        list(map(str, command)), cwd=cwd, env=inherited | environment, capture_output=True, text=True, timeout=300
    )


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    done = run(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", folder, ROOT, cwd=folder)
    assert done.returncode == 0, done.stdout + done.stderr
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def environment(wheel, tmp_path_factory) -> Path:
    """A fresh environment with the wheel, a stranger's `datasets`, and this environment's libraries behind them."""
    folder = tmp_path_factory.mktemp("environment")
    done = run(sys.executable, "-m", "venv", "--without-pip", folder, cwd=folder)
    assert done.returncode == 0, done.stderr
    python = folder / "bin" / "python"
    done = run(sys.executable, "-m", "pip", "--python", python, "install", "--no-deps", "--no-index", wheel, cwd=folder)
    assert done.returncode == 0, done.stdout + done.stderr
    packages = folder / "lib" / f"python{sysconfig.get_python_version()}" / "site-packages"
    (packages / "datasets").mkdir()
    (packages / "datasets" / "__init__.py").write_text("WHOSE = 'a stranger'\n")
    # A line that names a folder puts it on the path behind ours, without the editable installation that it may hold.
    (packages / "libraries.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return folder


def test_only_desdis_is_visible(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.split("/")[0] for name in names} == {"desdis", f"desdis-{__version__}.dist-info"}
    assert not [name for name in names if "__pycache__" in name or name.endswith((".db", ".jpg", ".h5"))]
    for needed in ("run_reconstruction.py", "pipeline/run.py", "datasets/cameras.py", "configs/reconstruct/fast.yaml"):
        assert f"desdis/_application/{needed}" in names
    for needed in ("LICENSE", "NOTICE"):
        assert f"desdis-{__version__}.dist-info/licenses/{needed}" in names


def test_whatever_ships_beside_the_code_is_in_the_wheel(wheel):
    names = set(zipfile.ZipFile(wheel).namelist())
    for folder, place in (("desdis", "desdis"), ("pipeline", "desdis/_application/pipeline")):
        for path in (ROOT / folder).rglob("*"):
            if path.is_file() and "__pycache__" not in path.parts:
                assert f"{place}/{path.relative_to(ROOT / folder).as_posix()}" in names


def test_library_and_stranger_live_together(environment, tmp_path):
    code = (
        "import datasets, desdis, importlib.util, numpy as np\n"
        "assert datasets.WHOSE == 'a stranger' and importlib.util.find_spec('pipeline') is None\n"
        "from desdis.describer import Describer\n"
        "print(desdis.__file__)"
    )
    done = run(environment / "bin" / "python", "-c", code, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(str(environment))


def test_the_command_reconstructs_from_an_unrelated_folder(environment, tmp_path):
    command = environment / "bin" / "desdis-reconstruct"
    done = run(command, "--help", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "detector.max_keypoints" in done.stdout
    assert run(command, "--version", cwd=tmp_path).stdout.strip() == f"desdis {__version__}"

    from datasets.scenes.rendered import render_scene

    render_scene(tmp_path / "scene", n_images=4, size=(320, 240), arc=25.0)
    done = run(
        command, "--images", "scene/images", "--output", "result", "descriptor.name=rootsift",
        "detector.max_keypoints=600", "mapper.attempts=1",
        cwd=tmp_path, OMP_NUM_THREADS="1",
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads((tmp_path / "result" / "report.json").read_text())
    assert report["models"][0]["registered_images"] == 4
    assert report["versions"]["desdis"] == __version__


def test_any_opencv_serves(tmp_path):
    assert opencv_requirement([str(tmp_path)]).startswith("opencv-python-headless>=")
    info = tmp_path / "opencv_python-4.13.0.92.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: opencv-python\nVersion: 4.13.0.92\n")
    assert opencv_requirement([str(tmp_path)]).startswith("opencv-python>=")


def test_constraints_meet_the_ranges():
    from packaging.requirements import Requirement

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    wanted = [*project["tool"]["hatch"]["metadata"]["hooks"]["custom"]["dependencies"], opencv_requirement([])]
    for extra in project["project"]["optional-dependencies"].values():
        wanted += extra
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pinned = dict(line.split("==") for line in lines if "==" in line and not line.startswith("#"))
    for requirement in map(Requirement, wanted):
        assert requirement.specifier.contains(pinned[requirement.name.lower()]), requirement
