"""Recipes: files, single options, and their mistakes."""

from pathlib import Path

import pytest

from desdis.errors import UserError
from desdis.recipe import read_recipe

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
