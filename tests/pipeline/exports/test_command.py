"""The export command: what it refuses, and what it says."""

import pytest

from desdis.errors import UserError
from pipeline.export import export, main
from tests.pipeline.synthetic_run import verified, write_run


@pytest.mark.parametrize(
    ("names", "to", "words"),
    [
        (("a/b.png", "a-b.png"), "hloc", "hloc would call both"),
        (("one two.png", "z.png"), "hloc", "'one two.png'"),
        (("a/1.png", "b/1.png"), "deep-image-matching", "would call both a/1.png and b/1.png"),
        (("a/1.png", "b/1.png"), "imc", "would call both"),
        (("1.png", "1.jpg"), "imc", "without suffix"),
        (("one two.png", "z.png"), "colmap", "'one two.png'"),
    ],
)
def test_names_that_a_layout_cannot_hold(tmp_path, names, to, words):
    run = verified(write_run(tmp_path, tuple(sorted(names)), points=40))
    with pytest.raises(UserError, match=words):
        export(run.work.output, to, tmp_path / "out")


def test_command(run, tmp_path, capsys):
    assert main([str(run.work.output), "--to", "npz", "--output", str(tmp_path / "out")]) == 0
    assert "matches.npz" in capsys.readouterr().out
    assert main([str(run.work.output), "--to", "npz", "--output", str(tmp_path / "out")]) == 2
    assert "not empty" in capsys.readouterr().err
    assert main([str(tmp_path / "nowhere"), "--to", "npz"]) == 2
    assert "holds no features.h5" in capsys.readouterr().err
    assert not (tmp_path / "nowhere").exists()


def test_photographs_that_were_moved(run, tmp_path):
    with pytest.raises(UserError, match=r"photograph 0001\.png is not there.*--images"):
        export(run.work.output, "nerfstudio", tmp_path / "out", images=tmp_path)
