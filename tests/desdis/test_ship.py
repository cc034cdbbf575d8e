"""Trained weights become shipped ones with a card, and the ablation makes its table."""

import json
from pathlib import Path

import pytest
import torch

import desdis
from desdis import ablation
from desdis.architectures import build
from desdis.checkpoints import file_sha256, load_network, save_network
from desdis.errors import UserError
from desdis.patchsets import read_patch_set
from desdis.ship import read_licences, ship
from desdis.train import main
from tests.desdis.rendered_patch_set import write_patch_set

QUICK = ["teacher=", "student=desdis-4", "batch=32", "log_every=2", "warmup=2", "steps=4", "validate_every=4"]


@pytest.fixture(scope="module")
def words(tmp_path_factory) -> list[str]:
    folder = tmp_path_factory.mktemp("sets")
    train, held_out = write_patch_set(folder / "train"), write_patch_set(folder / "other", 60, seed=1, name="other")
    return [*QUICK, f"patches={train}", f"validation={held_out}"]


def test_shipped_weights_answer_as_trained_and_the_card_says_how_they_were_made(words, tmp_path):
    manifest = Path(words[-2].removeprefix("patches=")) / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"magnification": 9.0', '"magnification": 5.0'))
    assert main([*words, f"output={tmp_path / 'run'}", "seed=7"]) == 0
    trained = tmp_path / "run/best.safetensors"
    held_out = read_patch_set(Path(words[-1].removeprefix("validation=")))
    target = ship(trained, "small", [held_out], tmp_path, note="A sentence.")
    card = target.with_suffix(".md").read_text()
    for text in (
        file_sha256(target),
        "render0, render1",
        "| 7, ",
        "A sentence.",
        "student=desdis-4",
        "128 (4 steps of 32)",
    ):
        assert text in card
    assert str(tmp_path) not in card + json.dumps(load_network(target)[1].metadata)
    patches = torch.rand(9, 1, 32, 32, generator=torch.Generator().manual_seed(0)) * 255
    with torch.no_grad():
        apart = (load_network(target)[0](patches) - load_network(trained)[0](patches)).norm(dim=1)
    assert apart.max() < 5e-3
    assert desdis.load(str(target)).magnification == 5 and "half-width 5 sigma" in card
    assert target.stat().st_size < 0.7 * trained.stat().st_size


def test_the_card_of_weights_that_went_on_from_others_tells_all_trainings(words, tmp_path):
    held_out = [read_patch_set(Path(words[-1].removeprefix("validation=")))]
    assert main([*words, f"output={tmp_path / '1'}", "seed=7"]) == 0
    assert main([*words, f"output={tmp_path / '2'}", "steps=2", f"start={tmp_path / '1/best.safetensors'}"]) == 0
    shipped = ship(tmp_path / "2/best.safetensors", "second", held_out, tmp_path)
    assert main([*words, f"output={tmp_path / '3'}", "margin=2", f"start={shipped}"]) == 0
    card = ship(tmp_path / "3/best.safetensors", "third", held_out, tmp_path).with_suffix(".md").read_text()
    assert "128 (4 steps of 32), then 64 (2 steps of 32), then 128 (4 steps of 32)" in card
    made = [line.split(" ") for line in card.splitlines() if "desdis.train" in line]
    assert [{*line} & {"output=RUN1", "output=RUN2", "output=RUN3"} for line in made] == [
        {f"output=RUN{k}"} for k in (1, 2, 3)
    ]
    assert "seed=7" in made[0] and "start=RUN1/best.safetensors" in made[1] and "start=RUN2/best.safetensors" in made[2]
    assert "| teacher | none; then none; then none |" in card
    assert "margin=2.0" in made[2] and str(tmp_path) not in card


def test_the_card_of_an_equal_weight_student_names_no_private_file(words, tmp_path):
    held_out = [read_patch_set(Path(words[-1].removeprefix("validation=")))]
    first = tmp_path / "1/best.safetensors"
    assert main([*words, f"output={first.parent}"]) == 0
    assert main([*words[1:], f"output={tmp_path / '2'}", f"start={first}", f"teacher={first}"]) == 0
    shipped = ship(tmp_path / "2/best.safetensors", "desdis-4", held_out, tmp_path)
    card = shipped.with_suffix(".md").read_text()
    assert str(tmp_path) not in "".join(load_network(shipped)[1].metadata.values())
    assert f"| teacher | none; then RUN1/best.safetensors (sha256 {file_sha256(first)}) |" in card
    assert " start=RUN1/best.safetensors " in card and " teacher=RUN1/best.safetensors " in card
    assert str(tmp_path) not in card


def test_heavy_weights_go_by_their_architecture_or_as_its_student(words, tmp_path):
    assert (
        main([*(w for w in words if "student" not in w), "student=hardnet", "steps=1", f"output={tmp_path / 'run'}"])
        == 0
    )
    held_out = [read_patch_set(Path(words[-1].removeprefix("validation=")))]
    for name in ("hardnet", "desdis-hardnet"):
        card = ship(tmp_path / "run/best.safetensors", name, held_out, tmp_path).with_suffix(".md").read_text()
        assert "HardNet's (Mishchuk" in card and "dimensions" not in card
    with pytest.raises(UserError, match="is a hardnet: desdis-sosnet would be another"):
        ship(tmp_path / "run/best.safetensors", "desdis-sosnet", held_out, tmp_path)


def test_weights_of_unknown_making_are_not_shipped(words, tmp_path):
    save_network(build("desdis-4"), tmp_path / "foreign.safetensors", {})
    with pytest.raises(UserError, match=r"foreign\.safetensors was not written by desdis\.train"):
        ship(tmp_path / "foreign.safetensors", "small", [], tmp_path)
    assert main([*words, f"output={tmp_path / 'run'}", f"start={tmp_path / 'foreign.safetensors'}"]) == 0
    with pytest.raises(UserError, match=r"foreign\.safetensors, where the training started, is of unknown making"):
        ship(tmp_path / "run/best.safetensors", "small", [], tmp_path)


def test_places_of_an_earlier_stage_count_as_trained_on(words, tmp_path):
    train, other = (word.partition("=")[2] for word in words[-2:])
    assert main([*words[:-2], f"patches={other}", f"validation={train}", f"output={tmp_path / '1'}"]) == 0
    assert main([*words, f"output={tmp_path / '2'}", f"start={tmp_path / '1/best.safetensors'}"]) == 0
    with pytest.raises(UserError, match="holds other0, which these weights were trained on"):
        ship(tmp_path / "2/best.safetensors", "small", [read_patch_set(Path(other))], tmp_path)


def test_there_are_no_weights_without_a_card(words, tmp_path, monkeypatch):
    assert main([*words, f"output={tmp_path / 'run'}"]) == 0
    held_out = [read_patch_set(Path(words[-1].partition("=")[2]))]
    monkeypatch.setattr("desdis.ship.OFFICIAL", {"desdis-4": ""})  # as if the authors' file could not be fetched
    with pytest.raises(UserError, match="published no 'desdis-4'"):
        ship(tmp_path / "run/best.safetensors", "small", held_out, tmp_path / "weights")
    monkeypatch.undo()
    monkeypatch.setattr("desdis.ship.score_table", lambda scores: 1 / 0)  # as if it were interrupted
    with pytest.raises(ZeroDivisionError):
        ship(tmp_path / "run/best.safetensors", "small", held_out, tmp_path / "weights")
    assert not list((tmp_path / "weights").iterdir())


def test_what_would_mislead_is_not_shipped(words, tmp_path):
    assert main([*words, f"output={tmp_path / 'run'}"]) == 0
    trained, (train, other) = tmp_path / "run/best.safetensors", (word.partition("=")[2] for word in words[-2:])
    with pytest.raises(UserError, match="holds render0, which these weights were trained on"):
        ship(trained, "small", [read_patch_set(Path(train))], tmp_path)
    with pytest.raises(UserError, match="is no name but a path"):
        ship(trained, "../small", [read_patch_set(Path(other))], tmp_path)
    for name in ("desdis-32", "desdis-hardnet", "sosnet"):
        with pytest.raises(UserError, match=f"is a desdis-4: {name} would be another"):
            ship(trained, name, [read_patch_set(Path(other))], tmp_path)
    ship(trained, "small", [read_patch_set(Path(other))], tmp_path)
    with pytest.raises(UserError, match=r"small\.safetensors is there already; .*--overwrite"):
        ship(trained, "small", [read_patch_set(Path(other))], tmp_path)
    card = (
        ship(trained, "small", [read_patch_set(Path(other))], tmp_path, overwrite=True).with_suffix(".md").read_text()
    )
    assert "| other: score |" in card and "docs/distillation.md" not in card


def test_the_card_lists_the_places_by_licence(words, tmp_path):
    assert main([*words, f"output={tmp_path / 'run'}"]) == 0
    trained, held_out = tmp_path / "run/best.safetensors", [read_patch_set(Path(words[-1].removeprefix("validation=")))]
    file = tmp_path / "places.csv"
    file.write_text("place,source,licence\nrender0,here,MIT\nrender1,there,not stated\n")
    card = ship(trained, "small", held_out, tmp_path, licences=read_licences(file)).with_suffix(".md").read_text()
    assert "**Places**: MIT: render0; not stated: render1." in card
    with pytest.raises(UserError, match="no licence is given for render1"):
        ship(trained, "other", held_out, tmp_path, licences={"render0": "MIT"})
    file.write_text("a,b\n1,2\n")
    with pytest.raises(UserError, match="columns place and licence"):
        read_licences(file)


def test_the_ablation_goes_on_and_makes_a_table(words, tmp_path, capsys):
    torch.manual_seed(0)
    save_network(build("desdis-4").eval(), tmp_path / "teacher.safetensors", {})
    here = [*words, f"output={tmp_path / 'all'}", f"teacher={tmp_path / 'teacher.safetensors'}"]
    only = ["--only", "desdis", "no teacher (lambda 0)", "imitation (lambda infinite)"]
    assert ablation.main([*here, "--seeds", "1", *only]) == 0
    first = capsys.readouterr().out
    log = tmp_path / "all/desdis-0/log.csv"
    written = log.stat().st_mtime_ns, log.read_text()
    assert ablation.main([*here, "--seeds", "2", *only]) == 0
    both = capsys.readouterr().out
    assert log.read_text() == written[1]  # the first seed's run was only read
    assert "| desdis | 1 |" in first and "| desdis | 2 |" in both and "±" in both
    assert both.count("\n| ") == 5  # a head, the teacher, three variants
    assert (tmp_path / "all/table.md").read_text().strip() == both.strip()


def test_the_ablation_wants_a_teacher_and_a_seed(words, capsys):
    assert ablation.main([*words, "teacher="]) == ablation.main([*words, "teacher=desdis-8", "--seeds", "0"]) == 2
    assert capsys.readouterr().err.count("give teacher=NAME and --seeds of 1 or more") == 2


def test_every_variant_is_a_recipe():
    recipes = dict(ablation.runs(ablation.read_recipe(None, []), list(ablation.VARIANTS), 1))
    assert len(recipes) == len(ablation.VARIANTS)
    assert len({recipe.output for recipe in recipes.values()}) == len(recipes)
