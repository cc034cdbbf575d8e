"""One command from photographs to shipped weights: what it does, in which order, and where it stops."""

from pathlib import Path

import pytest

from desdis.errors import UserError
from desdis.recipe import read_recipe
from pipeline import make_weights
from pipeline.build_patches import parse_options, parser
from pipeline.make_weights import commands, main


@pytest.fixture
def photographs(tmp_path) -> tuple[Path, Path]:
    for name, count in (("hall", 2), ("street", 7)):
        (tmp_path / name).mkdir()
        for k in range(count):
            (tmp_path / name / f"{k}.jpg").touch()
    return tmp_path / "hall", tmp_path / "street"


def test_every_command_is_one_that_its_program_takes(photographs, tmp_path):
    """For every recipe: sets, two stages that follow each other, the weights into a folder of their own."""
    hall, street = photographs
    for name in ("desdis-8", "desdis-16", "desdis-24", "desdis-32", "desdis-48"):
        done = commands(name, [hall], [street], tmp_path / "out", ["steps=7"])
        *builds, first, second, shipped = [words for _, words in done]
        for words in builds:
            parse_options(parser().parse_args(words).options)
        assert parser().parse_args(builds[2]).apart_from == [tmp_path / "out/tracks", tmp_path / "out/planes"]
        recipes = [read_recipe(Path(words[1]), words[2:]) for words in (first, second)]
        assert [recipe.student for recipe in recipes] == [name, name]
        assert recipes[0].teacher == recipes[1].teacher and recipes[0].steps == recipes[1].steps == 7
        assert recipes[1].start == f"{recipes[0].output}/best.safetensors"
        assert recipes[0].batch < recipes[1].batch
        assert shipped[:2] == [f"{recipes[1].output}/best.safetensors", name]
    links = sorted(path.name for path in (tmp_path / "out/planes_photographs/street").iterdir())
    assert links == ["0.jpg", "2.jpg", "4.jpg"]


def test_it_stops_where_a_command_fails(photographs, tmp_path, monkeypatch, capsys):
    called = []

    def build(words: list[str]) -> int:
        called.append(words)
        return 2 if "--homographies" in words else 0

    monkeypatch.setattr(make_weights.build_patches, "main", build)
    hall, street = photographs
    words = ["--train", str(hall), "--validation", str(street), "--output", str(tmp_path / "out")]
    assert main(["desdis-16", *words]) == 2
    assert len(called) == 2 and "--homographies 1" in capsys.readouterr().out


def test_there_is_no_such_recipe(photographs, tmp_path):
    with pytest.raises(UserError, match="output: this command sets it"):
        commands("desdis-8", [photographs[0]], [photographs[1]], tmp_path, ["output=x"])
    with pytest.raises(UserError, match="no recipe for 'desdis-9': choose from desdis-16"):
        commands("desdis-9", [photographs[0]], [photographs[1]], tmp_path, [])
