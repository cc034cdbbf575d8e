"""The stop-watch, and that each part of the benchmark runs and compares what it says."""

import re

import cv2
import numpy as np
import pytest

from pipeline import benchmark_speed
from pipeline.matchers import MatcherOptions, match
from pipeline.speed import describing, matching, on_device, timing, whole
from pipeline.speed.timing import Contender, Timing, interleaved, speedup


def test_contenders_take_turns():
    log: list[str] = []
    contenders = {name: Contender(lambda name=name: log.append(name)) for name in "abc"}
    timings = interleaved(contenders, rounds=3)
    assert "".join(log) == "abc" + "abc" + "bca" + "cab"  # the first three warm up
    assert all(len(t.wall) == len(t.cpu) == 3 for t in timings.values())


def test_speedup_is_per_thing_and_within_a_turn():
    reference = Timing(amount=10, wall=[1.0, 10.0, 1.0], cpu=[2.0, 2.0, 2.0])
    ours = Timing(amount=100, wall=[1.0, 10.0, 0.5], cpu=[1.0, 1.0, 1.0])
    assert speedup(ours, reference) == pytest.approx(10)  # turns say 10, 10 and 20
    assert speedup(ours, reference, "cpu") == pytest.approx(20)
    assert ours.rate == 100 and ours.cpu_rate == 100


def test_table():
    text = timing.timing_table(
        {"a": Contender(lambda: None, note="it is"), "b": Contender(lambda: None)},
        {"a": Timing(2, [0.5], [0.25]), "b": Timing(1, [1.0], [1.0])}, "b", "pair",
    )  # fmt: skip
    assert "| a | 250 | 125 | 4 | 4.00 | 8.00 | it is |" in text


def test_multiply_adds_are_those_of_the_networks():
    """Counted by hooks on the convolutions."""
    import torch

    from desdis import architectures

    for width in describing.WIDTHS:
        network = architectures.build(f"desdis-{width}").eval()
        count = 0.0

        def hook(layer, _, output):
            nonlocal count
            count += output[0, 0].numel() * layer.weight.numel()

        for layer in network.modules():
            if isinstance(layer, torch.nn.Conv2d):
                layer.register_forward_hook(hook)
        network(torch.rand(1, 1, 32, 32))
        assert count == describing.MULTIPLY_ADDS[f"desdis-{width}"]


def test_every_matcher_is_asked_the_same():
    rng = np.random.default_rng(0)
    d0 = rng.standard_normal((200, 128)).astype(np.float32)
    d1 = (d0[rng.permutation(200)] + 0.4 * rng.standard_normal((200, 128))).astype(np.float32)
    d0, d1 = (d / np.linalg.norm(d, axis=1, keepdims=True) for d in (d0, d1))
    expected = set(map(tuple, match(d0, d1, MatcherOptions(max_ratio=matching.RATIO)).indices.tolist()))
    assert len(expected) > 50
    for name, method in matching._methods(d0, d1).items():
        assert method() == expected, name


def test_what_a_gpu_is_asked_runs_on_a_processor(monkeypatch):
    import torch

    monkeypatch.setattr(torch, "compile", lambda network, **how: network)  # tests/desdis/runtimes compile
    monkeypatch.setattr(on_device, "together", lambda device: 3)
    noise = np.random.default_rng(0).integers(0, 256, (200, 240)).astype(np.uint8)
    text = on_device.on_device(cv2.GaussianBlur(noise, (0, 0), 2.0), 100, "cpu", rounds=1, patches=512)
    for name in (
        "desdis-8 compiled, keypoints of a photograph",
        "desdis-32 torch, patches",
        "desdis-32 training, pairs",
    ):
        assert re.search(rf"^- {name}: [\d,]+ a second", text, re.MULTILINE), text
    assert "| ours (exact) |" in text
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert "Not measured" in benchmark_speed.of_gpu(np.zeros((8, 8, 3), np.uint8), 1)


def test_repeated_photographs_differ(tmp_path):
    (tmp_path / "in").mkdir()
    picture = np.random.default_rng(0).integers(0, 255, (60, 80, 3)).astype(np.uint8)
    cv2.imwrite(str(tmp_path / "in" / "a.png"), cv2.resize(picture, (640, 480)))
    whole.repeat_with_jitter(tmp_path / "in", 5, tmp_path / "out", side=200)
    files = sorted((tmp_path / "out").iterdir())
    pictures = [cv2.imread(str(file)) for file in files]
    assert len(files) == 5 and all(p is not None and max(p.shape) == 200 for p in pictures)
    assert len({file.read_bytes() for file in files}) == 5


def test_without_photographs_it_says_so(capsys):
    assert benchmark_speed.main(["--only", "match"]) == 2
    assert "--images" in capsys.readouterr().err


def test_a_file_that_cannot_be_written_is_found_before_measuring(tmp_path, capsys):
    assert benchmark_speed.main(["--only", "match", "--output", str(tmp_path)]) == 2
    assert f"--output {tmp_path} cannot be written (Is a directory)" in capsys.readouterr().err


def test_the_command(tmp_path, capsys):
    """Patches and matching on two small pictures, with weights of no worth: the file says what made it."""
    import cv2
    import torch

    from desdis import architectures
    from desdis.checkpoints import save_network

    torch.manual_seed(0)
    weights = tmp_path / "small.safetensors"
    save_network(architectures.build("desdis-4"), weights, {})
    noise = np.random.default_rng(0).integers(0, 255, (20, 30)).astype(np.uint8)
    picture = cv2.resize(noise, (150, 100), interpolation=cv2.INTER_CUBIC)
    (tmp_path / "images").mkdir()
    cv2.imwrite(str(tmp_path / "images" / "a.png"), picture)
    cv2.imwrite(str(tmp_path / "images" / "b.png"), np.roll(picture, 5, axis=1))
    output = tmp_path / "new" / "speed.md"
    words = ["--images", str(tmp_path / "images"), "--weights", str(weights), "--only", "patches", "match"]
    assert benchmark_speed.main([*words, "--rounds", "1", "--threads", "1", "--output", str(output)]) == 0
    text = output.read_text()
    assert "Made by `python -m pipeline.benchmark_speed --images" in text
    assert text.count("| ours, bytes |") == 2 and text.count("100.00% of plain") >= 8
