"""A benchmark's YAML: what a method may set, placeholders, and errors that name file and entry."""

from pathlib import Path

import pytest
import yaml

from desdis.errors import UserError
from pipeline.protocols.recipe import Benchmark, load_benchmark, merged, missing_files, weights_files

SMALL = {
    "title": "t",
    "recipe": {"detector": {"max_keypoints": 100}},
    "scenes": [{"name": "s", "images": "{data}/s"}, {"name": "p", "kind": "pairs", "images": "x", "pairs": "y"}],
    "methods": [
        {"name": "a", "recipe": {"descriptor": {"name": "desdis", "weights": "{weights}/a.pth"}}},
        {"name": "colmap", "pipeline": "colmap"},
    ],
}


def test_placeholders_and_who_is_asked(tmp_path):
    path = tmp_path / "b.yaml"
    path.write_text(yaml.safe_dump(SMALL))
    benchmark = load_benchmark(path, Path("D"), Path("W"))
    assert benchmark.scenes[0].images == "D/s"
    assert benchmark.methods[0].recipe["descriptor"]["weights"] == "W/a.pth"
    assert [m.name for m in benchmark.asked(benchmark.scenes[0])] == ["a", "colmap"]
    assert [m.name for m in benchmark.asked(benchmark.scenes[1])] == ["a"]
    options = benchmark.options(benchmark.scenes[0], benchmark.methods[0], 7)
    assert options["detector"] == {"max_keypoints": 100} and options["seed"] == 7


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"methods": [{"name": "a", "recipe": {"seed": 1}}]}, "the same for all methods"),
        ({"methods": [{"name": "a", "recipe": {"detector": {"max_keypoints": 9}}}]}, "the budget of all methods"),
        ({"methods": [{"name": "a"}, {"name": "a"}]}, "one name"),
        ({"baseline": "b"}, "not one of the methods"),
        ({"scenes": [{"name": "s", "kind": "pairs", "images": "x"}]}, "needs `pairs`"),
        ({"scenes": [{"name": "s", "images": "x", "stereo": True}]}, "need a `reference`"),
        ({"scenes": [{"name": "s", "images": "x", "methods": ["z"]}]}, "not one of the methods"),
        ({"scenes": [{"name": "../s", "images": "x"}]}, "scenes.0.name"),
        ({"speed": 1}, "speed"),
    ],
)
def test_mistakes_are_named(tmp_path, change, words):
    path = tmp_path / "b.yaml"
    path.write_text(yaml.safe_dump(SMALL | change))
    with pytest.raises(UserError, match=words) as error:
        load_benchmark(path, Path("D"), Path("W"))
    assert str(path) in str(error.value)


def test_broken_files(tmp_path):
    with pytest.raises(UserError, match="does not exist"):
        load_benchmark(tmp_path / "no.yaml", Path("D"), Path("W"))
    (tmp_path / "b.yaml").write_text("a: [")
    with pytest.raises(UserError, match="not YAML"):
        load_benchmark(tmp_path / "b.yaml", Path("D"), Path("W"))
    (tmp_path / "c.yaml").write_text("- 1")
    with pytest.raises(UserError, match="table"):
        load_benchmark(tmp_path / "c.yaml", Path("D"), Path("W"))


def test_missing_weights_are_found_and_shipped_names_are_not_files(tmp_path):
    there = tmp_path / "w.pth"
    there.touch()
    options = {"descriptor": {"weights": str(tmp_path / "no.pth")}, "detector": {"keynet": {"weights": str(there)}}}
    assert missing_files(options) == [str(tmp_path / "no.pth")]
    assert missing_files({"descriptor": {"weights": "desdis-32"}}) == []
    assert weights_files(options) == [there]
    (shipped,) = weights_files({"descriptor": {"weights": "desdis-32"}, "seed": 0})
    assert shipped.name == "desdis-32.safetensors" and shipped.is_file()


def test_merged_does_not_change_what_it_merges():
    below = {"a": {"b": 1}}
    assert merged(below, {"a": {"c": 2}}) == {"a": {"b": 1, "c": 2}}
    assert below == {"a": {"b": 1}}


@pytest.mark.parametrize("path", sorted(Path("configs/benchmark").glob("*.yaml")), ids=lambda p: p.stem)
def test_every_shipped_benchmark_loads_and_all_its_cells_are_recipes(path):
    from pipeline.recipe import Recipe

    benchmark: Benchmark = load_benchmark(path, Path("D"), Path("W"))
    for scene in benchmark.scenes:
        for method in benchmark.asked(scene):
            Recipe.model_validate(benchmark.options(scene, method, 0))
