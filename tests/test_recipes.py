"""Every recipe that ships can be read, and says only what exists."""

from pathlib import Path

import pytest
import yaml

from desdis.recipe import read_recipe
from pipeline.protocols.recipe import load_benchmark
from pipeline.recipe import Recipe, load_recipe

CONFIGS = Path(__file__).resolve().parents[1] / "configs"


def shipped(kind: str) -> list[Path]:
    return sorted((CONFIGS / kind).glob("**/*.yaml"))


def ids(path: Path) -> str:
    return path.stem


def test_every_recipe_has_a_kind():
    known = {path for kind in ("reconstruct", "train", "benchmark") for path in shipped(kind)}
    assert known
    assert set(CONFIGS.rglob("*.y*ml")) == known


@pytest.mark.parametrize("path", shipped("reconstruct"), ids=ids)
def test_reconstruct(path):
    recipe = load_recipe(path)
    for key, value in flat(yaml.safe_load(path.read_text(encoding="utf-8"))):
        assert recipe.flat()[key] == value


@pytest.mark.parametrize("path", shipped("train"), ids=ids)
def test_train(path):
    recipe = read_recipe(path, [])
    assert recipe.steps > 0


@pytest.mark.parametrize("path", shipped("benchmark"), ids=ids)
def test_benchmark(path):
    benchmark = load_benchmark(path, data=Path("data"), weights=Path("weights"))
    for scene in benchmark.scenes:
        for method in benchmark.asked(scene):
            Recipe.model_validate(benchmark.options(scene, method, seed=1))


def flat(table: dict, prefix: str = ""):
    for key, value in table.items():
        if isinstance(value, dict):
            yield from flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value
