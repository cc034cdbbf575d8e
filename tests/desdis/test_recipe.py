"""Recipes: files, single options, and their mistakes."""

from itertools import pairwise
from pathlib import Path

import pytest

from desdis.errors import UserError
from desdis.recipe import Recipe, read_recipe
from desdis.train import learning_rate, main

ROOT = Path(__file__).parents[2]


def test_recipe_files_and_their_mistakes(tmp_path):
    file = tmp_path / "some.yaml"
    file.write_text(
        "# a comment\nstudent: desdis-16  # another\nbatch: 64\t# one more\nfour_ways: true\nteacher: ''\nstart: a#b\n"
    )
    recipe = read_recipe(file, [])
    assert (recipe.student, recipe.batch, recipe.four_ways, recipe.teacher) == ("desdis-16", 64, True, "")
    assert recipe.start == "a#b" and read_recipe(file, ["batch=128"]).batch == 128
    for words, message in [
        (["bach=3"], "no option 'bach'; did you mean batch\\?"),
        (["zzz=3"], "no option 'zzz'; there are turns, "),
        (["turns=2"], "must lie in 0"),
        (["batch"], "not KEY=VALUE"),
        (["batch=many"], "must be of type int"),
        (["batch=1"], "must lie in 2"),
        (["learning_rate=nan"], "must lie in 0 .. any finite number"),
        (["regulariser=inf"], "must lie in 0 .. any finite number"),
        (["turns=nan"], "must lie in 0 .. 1"),
        (["measure=angle"], "one of distance, squared, cosine"),
    ]:
        with pytest.raises(UserError, match=message):
            read_recipe(file, words)
    file.write_text("student desdis-16\n")
    with pytest.raises(UserError, match="line 1"):
        read_recipe(file, [])
    file.write_bytes(b"student: \xff\xfe\n")
    with pytest.raises(UserError, match="not UTF-8"):
        read_recipe(file, [])


@pytest.mark.parametrize("file", sorted((ROOT / "configs/train").glob("*.yaml")), ids=lambda file: file.stem)
def test_every_recipe_in_configs_reads(file):
    assert read_recipe(file, []).student


@pytest.mark.parametrize(
    ("schedule", "steady", "middle", "last"),
    [("cosine", 0, 0.5, 0.0015), ("linear", 0, 0.5, 0.025), ("cosine", 1, 1, 1), ("linear", 0.5, 1, 0.05)],
)
def test_the_learning_rate_rises_and_falls_as_asked(schedule, steady, middle, last):
    recipe = Recipe(steps=40, warmup=4, learning_rate=2.0, schedule=schedule, steady=steady)
    at = [learning_rate(recipe, step) for step in range(40)]
    assert at[0] == pytest.approx(2 / 4) and at[1] < at[2] < at[3]
    assert at[20] == pytest.approx(2 * middle) and at[39] == pytest.approx(2 * last, rel=0.05)
    assert all(before >= after for before, after in pairwise(at[3:]))


def test_options_and_words_may_be_mixed(tmp_path, capsys):
    file = tmp_path / "some.yaml"
    file.write_text("student: desdis-4\n")
    assert main(["batch=64", "--config", str(file), f"patches={tmp_path / 'none'}"]) == 2
    assert "none" in capsys.readouterr().err  # it got as far as the missing set
