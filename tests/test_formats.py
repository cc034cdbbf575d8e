"""docs/formats.md is the contract: what a real run leaves is held against its tables, in both directions."""

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from datasets.scenes.rendered import render_scene
from pipeline.recipe import Recipe, load_recipe
from pipeline.types import places

ROOT = Path(__file__).resolve().parents[1]
TEXT = (ROOT / "docs" / "formats.md").read_text(encoding="utf-8")
TYPES = {
    "integer": lambda v: isinstance(v, int) and not isinstance(v, bool),
    "number": lambda v: isinstance(v, int | float) and not isinstance(v, bool) and np.isfinite(v),
    "string": lambda v: isinstance(v, str),
    "object": lambda v: isinstance(v, dict),
    "null": lambda v: v is None,
    "any": lambda v: True,
}


def rows(section: str) -> list[list[str]]:
    """The cells of a section's table."""
    body = TEXT.split(f"\n## {section}\n")[1].split("\n## ")[0]
    lines = [line for line in body.splitlines() if line.startswith("| ") and not line.startswith("| ---")]
    return [re.split(r"(?<!\\) \|", line.strip("| "))[:3] for line in lines[1:]]


def names(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


SCHEMA = {name: kind.strip() for cell, kind, *_ in rows("report.json") for name in names(cell)}
MAPS = tuple(name.removesuffix(".<name>") for name in SCHEMA if name.endswith(".<name>"))


def leaves(value: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    """(documented form of the key, value) of everything in the report."""
    if key in SCHEMA and (value is None or not isinstance(value, dict | list)):
        yield key, value
    elif isinstance(value, dict):
        maps = key in ("stages", *MAPS)
        for name, item in value.items():
            yield from leaves(item, f"{key}.<name>" if maps else f"{key}.{name}".lstrip("."))
    elif isinstance(value, list) and key not in SCHEMA:
        for item in value:
            yield from leaves(item, f"{key}[]")
    else:
        yield key, value


@pytest.fixture(scope="module")
def output(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    render_scene(folder / "scene", n_images=4, size=(320, 240), arc=25)
    (folder / "scene" / "images" / "broken.jpg").write_bytes(b"\xff\xd8 no photograph")
    scene = folder / "scene"
    arguments = ["--images", scene / "images", "--reference", scene / "sparse", "--output", folder / "out"]
    words = ["descriptor.name=rootsift", "detector.max_keypoints=600", "mapper.attempts=1", "threads=1"]
    command = [sys.executable, ROOT / "run_reconstruction.py", *arguments, *words]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder / "out"


@pytest.fixture(scope="module")
def report(output) -> dict[str, Any]:
    return json.loads((output / "report.json").read_text())


def test_every_key_of_the_report_is_documented(report):
    undocumented = {key for key, _ in leaves(report)} - set(SCHEMA)
    assert not undocumented


def test_every_value_has_its_documented_type(report):
    for key, value in leaves(report):
        assert any(TYPES[kind](value) for kind in SCHEMA[key].split(" or ")), (key, value)


def test_what_is_documented_is_there(report):
    found = {key for key, _ in leaves(report)}
    optional = re.compile(r"^(accuracy|reference)$|not_registered|not_in_reference|unregistered|bridges")
    assert {key for key in SCHEMA if key not in found and not optional.search(key)} == set()


def test_the_report_says_what_happened(report):
    assert (report["images"]["found"], report["images"]["used"]) == (5, 4)
    assert [skipped["name"] for skipped in report["images"]["skipped"]] == ["broken.jpg"]
    assert report["models"][0]["registered_images"] == 4
    assert report["accuracy"]["maa_10"] > 0.9
    assert report["recipe"]["detector.max_keypoints"] == 600
    assert report["seconds_total"] == pytest.approx(sum(s["seconds"] for s in report["stages"].values()), abs=0.01)


def test_every_documented_file_is_written(output):
    for cell, *_ in rows("Output folder"):
        for name in names(cell):
            assert (output / name.replace("<n>", "0")).exists(), name


def test_every_documented_option_exists():
    flat = Recipe().flat()
    for cell, *_ in rows("Options"):
        for name in names(cell):
            assert name in flat


def test_the_written_recipe_is_the_recipe(output, report):
    recipe = load_recipe(output / "recipe.yaml")
    assert recipe.flat() == report["recipe"]
    assert recipe.hash == report["recipe_hash"]


def test_features_are_as_documented(output):
    documented = {names(cell)[0]: kind.split()[-1] for cell, kind, *_ in rows("features.h5")}
    with h5py.File(output / "features.h5") as file:
        assert {"format", "pixel_convention", "manifest"} <= set(file.attrs)
        for name in ("0000.jpg", "0003.jpg"):
            group = file[name]
            assert group.attrs["complete"]
            # of the two that come with orientation=auto, the one for level photographs
            assert set(group) == set(documented) - {"descriptors_upright"}
            for dataset in group:
                assert group[dataset].dtype == np.dtype(documented[dataset]), dataset
            count = len(group["keypoints"])
            assert len(np.unique(places(group["lafs"][()]))) <= 600
            assert group["descriptors"].attrs["orientation"] == "upright"
            assert group["descriptors"].shape == (128, count) and group["descriptors_oriented"].shape[1] <= 512
            assert group["lafs"].shape == (count, 2, 3)
            assert np.array_equal(group["lafs"][:, :, 2], group["keypoints"])
            assert group["image_size"][:].tolist() == [320, 240]


def test_matches_are_as_documented(output):
    with h5py.File(output / "matches.h5") as file, h5py.File(output / "features.h5") as features:
        assert {"format", "manifest"} <= set(file.attrs)
        for a, b in (line.split() for line in (output / "pairs.txt").read_text().splitlines()):
            pair = file[f"{a}/{b}"]
            assert pair.attrs["complete"] and list(pair.attrs["names"]) == [a, b]
            assert pair["matches0"].dtype == np.int32 and pair["matching_scores0"].dtype == np.float16
            assert pair["matches0"].shape == pair["matching_scores0"].shape == features[a]["scores"].shape
            assert pair["matches0"][:].max() < len(features[b]["scores"])
