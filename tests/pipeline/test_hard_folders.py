"""Folders and moments that go wrong: bad files among good ones, interruptions."""

import re
import shutil
import signal
import subprocess
import sys
import time

import pytest

import run_reconstruction
from pipeline.recipe import load_recipe
from pipeline.run import run
from tests.datasets.photos.bad_files import write_bad_files
from tests.kill_and_resume import ROOT

SMALL = ["descriptor.name=rootsift", "detector.max_keypoints=800"]


def test_forty_bad_files_among_eight_good_ones(tmp_path):
    from datasets.scenes.rendered import render_scene

    render_scene(tmp_path / "scene", n_images=8, size=(480, 360))
    images = tmp_path / "images"
    shutil.copytree(tmp_path / "scene" / "images", images)
    good = sorted(path.name for path in images.iterdir())
    wanted = write_bad_files(images, images / good[0])
    assert len(wanted) == 40
    report = run(load_recipe(None, SMALL), images, tmp_path / "out")
    assert report["models"][0]["images"] == good
    assert report["images"]["found"] == 48 and report["images"]["used"] == 8
    reasons = {item["name"]: item["reason"] for item in report["images"]["skipped"]}
    assert set(reasons) == set(wanted)
    for name, reason in wanted.items():
        assert re.search(reason, reasons[name]), (name, reasons[name])
    strict = ["--images", str(images), "--output", str(tmp_path / "strict"), "--strict", *SMALL]
    assert run_reconstruction.main(strict) == run_reconstruction.USER_ERROR


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_says_how_to_go_on_and_does(rendered_scene, tmp_path, number):
    command = [sys.executable, str(ROOT / "run_reconstruction.py"), "--images", str(rendered_scene / "images"),
               "--output", str(tmp_path / "out"), *SMALL]  # fmt: skip
    process = subprocess.Popen(
        command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True,
        preexec_fn=lambda: signal.signal(number, signal.SIG_DFL),  # shells let background jobs ignore SIGINT
    )  # fmt: skip
    deadline = time.monotonic() + 60
    while not (tmp_path / "out" / "features.h5").exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(number)
    _, error = process.communicate(timeout=60)
    assert process.returncode == run_reconstruction.INTERRUPTED, error
    assert "run the same command again" in error and "Traceback" not in error
    assert subprocess.run(command, stdout=subprocess.DEVNULL, timeout=120).returncode == run_reconstruction.DONE
