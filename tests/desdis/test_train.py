"""Training on a rendered patch set: it learns, it resumes after kill -9, it spreads over processes, it refuses."""

import csv
import dataclasses
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from tensorboard.backend.event_processing import event_accumulator

from desdis.augment import plain
from desdis.checkpoints import load_network, save_network
from desdis.errors import UserError
from desdis.patchsets import batches, cut_pairs, draw_pairs, draw_upright, read_patch_set, turned_apart
from desdis.recipe import Recipe
from desdis.runs import copied, on_device, open_sets
from desdis.train import desdis_loss, main, train
from desdis.validation import validate
from tests.desdis.rendered_patch_set import write_patch_set

ROOT = Path(__file__).parents[2]
QUICK = {"teacher": "", "student": "desdis-4", "batch": 32, "log_every": 1, "learning_rate": 0.01, "warmup": 2}


@pytest.fixture(scope="module")
def sets(tmp_path_factory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("sets")
    return write_patch_set(folder / "train"), write_patch_set(folder / "held_out", 60, seed=1, name="other")


def curve(folder: Path, name: str = "loss") -> dict[int, float]:
    with open(folder / "log.csv", newline="") as file:
        return {int(row["step"]): float(row["value"]) for row in csv.DictReader(file) if row["name"] == name}


def command(*words: str) -> list[str]:
    quick = [f"{key}={value}" for key, value in QUICK.items()]
    return [sys.executable, "-m", "desdis.train", *quick, *words]


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}


def test_it_learns_and_leaves_weights_log_and_state(sets, tmp_path, monkeypatch):
    teacher = tmp_path / "teacher.safetensors"
    torch.manual_seed(0)
    save_network(load_or_build("desdis-6"), teacher, {})
    words = {**QUICK, "teacher": str(teacher), "steps": 40, "validate_every": 20, "upright": 0.3, "second_order": 0.1}
    options = Recipe(
        **words, patches=str(sets[0]), validation=str(sets[1]), output=str(tmp_path / "run"),
        rotation=4, scale=0.05, shift=0.03, gamma=0.1, gain=0.1, blur=0.5, noise=4, occlusion=0.1,
        decorrelation=0.1, norm_agreement=1e-4, four_ways=True, regulariser=0.1, average=0.9,
    )  # fmt: skip
    best = train(options)
    losses = curve(tmp_path / "run")
    assert np.mean([losses[s] for s in range(36, 41)]) < 0.8 * np.mean([losses[s] for s in range(1, 6)])
    assert {"fpr95_oriented", "retrieval_upright", "score"} <= {
        row.split(",")[1] for row in log_lines(tmp_path / "run")
    }
    scores = curve(tmp_path / "run", "score")
    assert list(scores) == [20, 40]
    _, info = load_network(best)
    assert json.loads(info.metadata["recipe"])["learning_rate"] == 0.01
    assert json.loads(info.metadata["validation"])["score"] == max(scores.values())
    assert json.loads(info.metadata["teacher"]) == {str(teacher): load_network(teacher)[1].sha256}
    assert (tmp_path / "run/recipe.json").is_file()
    events = event_accumulator.EventAccumulator(str(tmp_path / "run"))
    events.Reload()
    assert {event.step: event.value for event in events.Scalars("loss")} == pytest.approx(losses)


def test_a_bare_machine_trains_with_a_teacher(sets, tmp_path):
    """Only torch, numpy, safetensors and OpenCV: what else is installed cannot be imported here."""
    others = [
        "h5py", "kornia", "networkx", "onnxruntime", "pooch", "pycolmap", "pydantic", "rich", "scipy", "tensorboard",
    ]  # fmt: skip
    bare = f"import sys; sys.modules.update(dict.fromkeys({others})); from desdis.train import main; sys.exit(main())"
    save_network(load_or_build("desdis-4"), tmp_path / "teacher.safetensors", {})
    words = [f"patches={sets[0]}", f"validation={sets[1]}", f"output={tmp_path / 'run'}", "steps=2"]
    words += ["student=desdis-4", "batch=32", "log_every=1", f"teacher={tmp_path / 'teacher.safetensors'}"]
    subprocess.run([sys.executable, "-c", bare, *words], env=environment(), check=True, timeout=300)
    assert list(curve(tmp_path / "run")) == [1, 2]
    assert not list((tmp_path / "run").glob("events*"))


def load_or_build(name: str) -> torch.nn.Module:
    from desdis.architectures import build

    return build(name).eval()


def log_lines(folder: Path) -> list[str]:
    return (folder / "log.csv").read_text().splitlines()[1:]


@pytest.fixture
def one_thread():
    """As in the processes that are started here: sums of several threads differ in their last bits."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def test_killed_and_resumed_gives_the_same_curve(sets, tmp_path, one_thread):
    words = [f"patches={sets[0]}", "steps=30", "save_every=3", "rotation=3", "noise=3", "upright=0.5"]
    whole = tmp_path / "whole"
    assert main(command(*words, f"output={whole}")[3:]) == 0
    broken = tmp_path / "broken"
    process = subprocess.Popen(command(*words, f"output={broken}"), env=environment(), stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 300
    while not (broken / "state.pt").is_file() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert (broken / "state.pt").is_file()
    done = torch.load(broken / "state.pt", weights_only=True)["step"]
    assert main(command(*words, f"output={broken}")[3:]) == 0
    assert done < 30 or process.returncode == 0
    expected, found = curve(whole), curve(broken)
    assert list(found) == list(range(1, 31))
    assert found == pytest.approx(expected, rel=1e-5)
    for key, value in load_network(whole / "last.safetensors")[0].state_dict().items():
        torch.testing.assert_close(load_network(broken / "last.safetensors")[0].state_dict()[key], value)
    # finished: the same command has nothing left to do; another recipe in the same folder is refused
    assert main(command(*words, f"output={broken}")[3:]) == 0
    assert curve(broken) == found
    assert main(command(*words, "learning_rate=0.5", f"output={broken}")[3:]) == 2


GRADIENTS = """
import sys, torch
from torch.nn.functional import normalize
from desdis.distributed import Ranks
from desdis.recipe import Recipe
from desdis.train import desdis_loss
torch.manual_seed(0)
data, taught = torch.randn(2, 12, 20), normalize(torch.randn(2, 12, 6), dim=2)  # (side, pair, entries)
layer = torch.nn.Linear(20, 6)
ranks = Ranks("cpu")
shared, here = ranks.share(layer), 12 // ranks.count
mine = slice(ranks.rank * here, (ranks.rank + 1) * here)
a, p = ranks.gather_pairs(shared(data[:, mine].flatten(0, 1)))
taught = ranks.gather_pairs(taught[:, mine].flatten(0, 1))
loss, _ = desdis_loss(a, p, taught, None, Recipe(second_order=0.5, norm_agreement=0.1, four_ways=True), 0)
loss.backward()
if ranks.first:
    torch.save([loss.detach(), layer.weight.grad, layer.bias.grad], sys.argv[1])
"""


def torchrun(count: int, *arguments: str, status: int = 0) -> list[tuple[str, str]]:
    """What torchrun does for one machine: processes that know their rank (which stands for RANK in their arguments) and
    where to meet. What each has printed."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        meeting = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free.getsockname()[1]), "WORLD_SIZE": str(count)}
    started = [
        subprocess.Popen(
            [sys.executable, *(word.replace("RANK", str(rank)) for word in arguments)], text=True,
            env={**environment(), **meeting, "RANK": str(rank)}, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )
        for rank in range(count)
    ]  # fmt: skip
    printed = [process.communicate(timeout=300) for process in started]
    assert [process.returncode for process in started] == [status] * count, printed
    return printed


def test_two_processes_share_their_negatives(tmp_path):
    """The gradient of two processes with half a batch each is that of one process with the whole batch."""
    (tmp_path / "gradients.py").write_text(GRADIENTS)
    torchrun(2, str(tmp_path / "gradients.py"), str(tmp_path / "two.pt"))
    subprocess.run([sys.executable, tmp_path / "gradients.py", tmp_path / "one.pt"], env=environment(), check=True)
    for two, one in zip(torch.load(tmp_path / "two.pt"), torch.load(tmp_path / "one.pt"), strict=True):
        torch.testing.assert_close(two, one)


def test_training_over_two_processes(sets, tmp_path):
    words = [f"patches={sets[0]}", f"validation={sets[1]}", f"output={tmp_path / 'run'}", "steps=4", "validate_every=4"]
    printed = torchrun(2, *command(*words)[1:])
    assert [out for out, _ in printed] == [f"{tmp_path / 'run/best.safetensors'}\n", ""]
    assert not any("FutureWarning" in err for _, err in printed)
    assert list(curve(tmp_path / "run")) == [1, 2, 3, 4]
    assert load_network(tmp_path / "run/best.safetensors")[1].architecture == "desdis-4"
    for _, err in torchrun(2, *command(*words, f"output={tmp_path / 'other'}", "batch=33")[1:], status=2):
        assert "error: batch=33 cannot be shared by 2 processes" in err and "Traceback" not in err


def test_two_machines_that_share_no_disk_go_on_together(sets, tmp_path):
    words = [f"patches={sets[0]}", f"validation={sets[1]}", f"output={tmp_path / 'RANK'}", "save_every=1"]
    torchrun(2, *command(*words, "steps=2")[1:])
    assert not (tmp_path / "1").exists()  # only the first saves anything
    torchrun(2, *command(*words, "steps=3")[1:])
    assert list(curve(tmp_path / "0")) == [1, 2, 3]


@pytest.mark.parametrize(("precision", "tolerance"), [("float32", 2e-3), ("bfloat16", 0.1)])
def test_answers_of_the_teacher_are_those_of_the_network(sets, tmp_path, precision, tolerance):
    from desdis.teacher import Teacher

    teacher = tmp_path / "teacher.safetensors"
    save_network(load_or_build("desdis-6"), teacher, {})
    data = read_patch_set(sets[0])
    recipe = Recipe(teacher=f"{teacher} + {teacher}", teacher_sees="clean", turns=0, precision=precision)
    asked = Teacher(recipe, data, torch.device("cpu"))
    rows, upright = np.array([[0, 1], [9, 11]]), np.array([False, True])
    answer = asked.describe(torch.empty(0), rows, upright)
    patches = np.stack([data.patches["oriented"][0], data.patches["upright"][9], data.patches["oriented"][1],
                        data.patches["upright"][11]])  # fmt: skip
    with torch.no_grad():
        expected = load_network(teacher)[0](plain(torch.from_numpy(patches), data.margin))
    assert answer is not None and answer.shape == (4, 256)
    torch.testing.assert_close(answer @ answer.T, expected @ expected.T, atol=tolerance, rtol=0)
    # another set in the same folder is asked anew; answers that do not fit are refused
    (stored,) = data.folder.glob(f"teacher-*{precision}-0-360-oriented.npy")
    other = dataclasses.replace(data, manifest={**data.manifest, "source_sha256": "other"})
    Teacher(recipe, other, torch.device("cpu"))
    assert stored.with_name(stored.name.replace("-0-360-", "-other-360-")).is_file()
    np.save(stored, np.load(stored)[:9])
    with pytest.raises(UserError, match="holds 9 answers for 360 patches; remove it"):
        Teacher(recipe, data, torch.device("cpu"))
    live = Teacher(dataclasses.replace(recipe, teacher_sees="same"), data, torch.device("cpu"))
    answer = live.describe(plain(torch.from_numpy(patches), data.margin), rows, upright)
    assert answer is not None
    torch.testing.assert_close(answer @ answer.T, expected @ expected.T, atol=tolerance, rtol=0)


def test_an_infinite_weight_is_imitation():
    """A student that answers as its teacher has no loss left when the triplet's weight is 0."""
    taught = torch.nn.functional.normalize(torch.randn(2, 9, 16, generator=torch.Generator().manual_seed(0)), dim=2)
    for held in ("hardest", "teachers", "all"):
        for measure in ("distance", "squared", "cosine"):
            options = Recipe(triplet_weight=0.0, held=held, measure=measure)
            assert desdis_loss(taught[0] * 3, taught[1] * 2, taught, None, options, 0)[0].item() < 1e-10
            assert desdis_loss(taught[1], taught[0].roll(1, 0), taught, None, options, 0)[0].item() > 1e-3


@pytest.mark.parametrize("save_every", [1, 20])
@pytest.mark.parametrize("learning_rate", [1e6, 1e12, 1e30])
def test_what_is_not_finite_stops_and_keeps_what_was_trained(sets, tmp_path, learning_rate, save_every):
    """The message names a file to go on from where there is one; what is there can be loaded."""
    options = {**QUICK, "patches": str(sets[0]), "output": str(tmp_path), "learning_rate": learning_rate}
    with pytest.raises(UserError, match="is not finite at step") as error:
        train(Recipe(**options, steps=20, save_every=save_every))
    last = tmp_path / "last.safetensors"
    assert last.is_file() == (tmp_path / "state.pt").is_file() == (f"start={last} " in str(error.value))
    assert last.is_file() == (save_every == 1)
    if last.is_file():
        load_network(last)
        state = torch.load(tmp_path / "state.pt", weights_only=True)
        assert all(torch.isfinite(value).all() for key in ("student", "average") for value in state[key].values())


def test_resuming_needs_the_same_sets(sets, tmp_path):
    run = tmp_path / "run"
    options = Recipe(**QUICK, patches=str(sets[0]), validation=str(sets[1]), output=str(run), steps=2)
    train(options)
    third = str(write_patch_set(tmp_path / "third", 60, seed=2, name="third"))
    for name, other in (("patches", third), ("validation", third), ("validation", "")):
        with pytest.raises(UserError, match=f"holds a training with another {name};"):
            train(dataclasses.replace(options, **{name: other}))
    # the same sets elsewhere; recipe.json says what was asked last
    moved = dataclasses.replace(options, patches=str(shutil.copytree(sets[0], tmp_path / "moved")), steps=3)
    train(moved)
    assert json.loads((run / "recipe.json").read_text()) == dataclasses.asdict(moved)
    # earlier versions did not keep what the sets hold
    state = torch.load(run / "state.pt", weights_only=True)
    del state["sets"]
    torch.save(state, run / "state.pt")
    train(dataclasses.replace(options, validation="", steps=4))
    assert list(curve(run)) == [1, 2, 3, 4]
    # nor had they every option: what they did is its default
    del state["recipe"]["steady"]
    torch.save(state, run / "state.pt")
    with pytest.raises(UserError, match="holds a training with another steady;"):
        train(dataclasses.replace(options, steady=0.5))
    train(dataclasses.replace(options, steps=4))


def test_a_foreign_state_and_a_file_as_output_are_refused(sets, tmp_path):
    options = Recipe(**QUICK, patches=str(sets[0]), output=str(tmp_path), steps=1)
    train(options)
    state = torch.load(tmp_path / "state.pt", weights_only=True)
    for other in ({"a": 1}, [1], {**state, "student": {}}, {**state, "optimiser": {}}, {**state, "step": "many"}):
        torch.save(other, tmp_path / "state.pt")
        with pytest.raises(UserError, match=r"state\.pt is damaged; move it away"):
            train(options)
    with pytest.raises(UserError, match=r"output=.*recipe\.json cannot be written .*; choose another"):
        train(dataclasses.replace(options, output=str(tmp_path / "recipe.json")))


def test_every_point_once_an_epoch_and_hard_pairs(sets):
    data = read_patch_set(sets[0])
    seen = [points for _, points in batches(data, 40, 10, 5, 0, 3)]
    assert sorted(np.concatenate(seen)) == list(range(120))
    later = next(batches(data, 40, 10, 5, 2, 3))
    assert later[0] == 2 and (later[1] == seen[2]).all()
    chunk = data.point_scenes[seen[0]].reshape(-1, 10)
    assert (chunk == chunk[:, :1]).mean() > 0.6
    points = np.arange(120)
    angles = []
    for tries in (1, 32):
        pairs = draw_pairs(data, points, tries, np.random.default_rng(0))
        assert (data.point_ids[pairs] == points[:, None]).all() and (pairs[:, 0] != pairs[:, 1]).all()
        angles.append((data.views[pairs[:, 0]] * data.views[pairs[:, 1]]).sum(axis=1))
    assert (angles[1] <= angles[0] + 1e-6).all() and (angles[1] < angles[0]).mean() > 0.3


def test_upright_patches_only_where_they_agree(sets):
    data = read_patch_set(sets[0])
    pairs = draw_pairs(data, np.arange(120), 1, np.random.default_rng(0))
    upright = draw_upright(data, pairs, 0.9, np.random.default_rng(1))
    patches = cut_pairs(data.patches, pairs, upright)
    assert 0 < upright.sum() < 120 and (turned_apart(data, pairs)[upright] < 25).all()
    for i in range(120):
        source = data.patches["upright" if upright[i] else "oriented"]
        assert (patches[i] == source[pairs[i, 0]]).all() and (patches[i + 120] == source[pairs[i, 1]]).all()
    # patches in a device's memory, where there is room for them, are cut in the same way
    held = {name: copied(array, torch.device("cpu")) for name, array in data.patches.items()}
    np.testing.assert_array_equal(cut_pairs(held, pairs, upright).numpy(), patches)
    assert on_device(data, torch.device("cpu")) is data.patches


def test_several_validation_sets_share_the_score(tmp_path):
    names = [tmp_path / "tracks", tmp_path / "planes"]
    training = write_patch_set(tmp_path / "train", 60)
    for seed, folder in enumerate(names, start=5):
        write_patch_set(folder, 60, seed=seed, name=folder.name)
    recipe = Recipe(**QUICK, patches=str(training), validation=f"{names[0]} + {names[1]}")
    _, held_out = open_sets(recipe)
    network, device = load_or_build("desdis-4"), torch.device("cpu")
    alone = [validate(network, [data], device)["score"] for data in held_out]
    both = validate(network, held_out, device)
    assert [both["tracks.score"], both["planes.score"]] == alone
    assert both["score"] == pytest.approx(np.mean(alone))
    # scenes of other names, but one photograph in both
    for folder in (training, names[1]):
        manifest = json.loads((folder / "manifest.json").read_text())
        (folder / "manifest.json").write_text(json.dumps({**manifest, "images": [{"sha256": "ab" * 32}]}))
    with pytest.raises(UserError, match=r"planes and .*train share abab"):
        open_sets(recipe)


def test_places_and_patches_of_the_training_are_not_validated_on(tmp_path):
    """By the place's name, also where a photograph of it is a scene; by all patches, whatever they are called."""
    training = write_patch_set(tmp_path / "train", seed=1)
    for scene, source in (("render0/photo.jpg", "2"), ("elsewhere", "1")):
        held = write_patch_set(tmp_path / source, seed=2, name="held")
        manifest = json.loads((held / "manifest.json").read_text())
        manifest["scenes"][0]["name"], manifest["source_sha256"] = scene, source
        (held / "manifest.json").write_text(json.dumps(manifest))
        with pytest.raises(UserError, match="scenes must be apart"):
            open_sets(Recipe(patches=str(training), validation=str(held)))


def test_a_point_without_a_negative_is_told(sets, tmp_path):
    with pytest.raises(UserError, match="step 0: a point overlaps its whole batch"):
        train(Recipe(**QUICK | {"false_reach": 1e9, "chunk": 1000}, patches=str(sets[0]), output=str(tmp_path)))


def test_broken_sets_say_what_is_wrong(tmp_path, capsys):
    good = write_patch_set(tmp_path / "good", 40)
    options = {**QUICK, "output": str(tmp_path / "run"), "steps": 1}

    def refused(message: str, **changes) -> None:
        with pytest.raises(UserError, match=message):
            train(Recipe(**{**options, "patches": str(good), **changes}))

    refused("no patch set: give patches", patches="")
    refused("manifest.json is absent", patches=str(tmp_path))
    refused("fewer than batch=64", batch=64)
    refused("share render0", validation=str(good))
    refused("desdis-WIDTH", student="resnet")
    for device in ("abacus", "meta", "privateuseone", ""):
        refused(f"device={device} cannot be used here", device=device)
    np.save(good / "views.npy", np.zeros((3, 3), np.float32))
    refused(r"views\.npy .*3.*120")
    (good / "views.npy").unlink()
    refused("lacks views.npy")
    np.save(good / "patches.npy", np.zeros((120, 64, 64), np.float32))
    np.save(good / "views.npy", np.zeros((120, 3), np.float32))
    refused("must be uint8")
    (good / "patches.npy").write_bytes(b"short")
    refused("patches.npy cannot be read")
    capsys.readouterr()
    assert main(["patches="]) == 2
    assert capsys.readouterr().err.startswith("error: no patch set")
