from pathlib import Path

import cv2
import numpy as np
import pytest

from datasets.patches.plain_set import PlainScene, write_plain_set
from desdis.patchsets import read_patch_set
from pipeline.protocols.patch_scores import LEVELS, plane_tasks, set_tasks, window
from tests.datasets.patches.planes import texture


def raw(patches: np.ndarray) -> np.ndarray:
    """Grey values as a descriptor: subsampled, without mean, of unit length."""
    flat = np.array([cv2.resize(p, (8, 8), interpolation=cv2.INTER_AREA).ravel() for p in patches], np.float32)
    flat -= flat.mean(axis=1, keepdims=True)
    return flat / np.linalg.norm(flat, axis=1, keepdims=True)


def blind(patches: np.ndarray) -> np.ndarray:
    """A descriptor that looks at nothing."""
    found = np.random.default_rng(0).standard_normal((len(patches), 8)).astype(np.float32)
    return found / np.linalg.norm(found, axis=1, keepdims=True)


@pytest.fixture
def patch_set(tmp_path) -> Path:
    """Two scenes of 60 points, three patches each: one picture under little noise."""
    scenes = []
    generator = np.random.default_rng(0)
    for name in ("a", "b"):
        smooth = [cv2.GaussianBlur(p, (0, 0), 5) for p in generator.standard_normal((60, 64, 64)).astype(np.float32)]
        pictures = np.repeat(np.array([128 + 500 * p for p in smooth]), 3, axis=0)
        patches = np.clip(pictures + generator.normal(0, 5, pictures.shape), 0, 255).astype(np.uint8)
        places = np.column_stack([np.arange(60) * 100, np.zeros((60, 2))])
        scenes.append(PlainScene(name, patches, np.repeat(np.arange(60), 3), places, np.ones(60)))
    write_plain_set(tmp_path / "set", scenes, margin=1.25, magnification=9.0, options={})
    return tmp_path / "set"


def test_a_set_is_scored_scene_by_scene(patch_set):
    tasks = list(set_tasks(read_patch_set(patch_set), "set"))
    assert [(t.group, t.scene) for t in tasks] == [("set oriented", "a"), ("set oriented", "b")]
    for task in tasks:
        assert task.patches.shape[1:] == (32, 32)
        good, chance = task.score(raw(task.patches)), task.score(blind(task.patches))
        assert good["fpr95"] < 0.02
        assert good["top1"] == good["matching"] == good["ratio"] == 1
        assert good["retrieval"] == pytest.approx(1, abs=1e-3)
        assert chance["fpr95"] > 0.8
        assert chance["top1"] < 0.1
        assert chance["retrieval"] < 0.2


def test_planes_are_scored_by_level(tmp_path):
    folder = tmp_path / "v_wall"
    folder.mkdir()
    grey = texture()[:400, :500]
    cv2.imwrite(str(folder / "1.png"), grey)
    H = np.array([[0.9, 0.1, 20], [-0.1, 0.95, 40], [0, 0, 1]])
    cv2.imwrite(str(folder / "2.png"), cv2.warpPerspective(grey, H, (500, 400), flags=cv2.INTER_AREA))
    np.savetxt(folder / "H_1_2", H)
    tasks = list(plane_tasks(tmp_path, keypoints=200))
    assert [t.group for t in tasks] == [f"planes {level}" for level in LEVELS]
    scores = [task.score(raw(task.patches)) for task in tasks]
    assert scores[0]["top1"] > 0.8
    assert scores[0]["fpr95"] < 0.05
    assert scores[0]["top1"] > scores[2]["top1"] > scores[3]["top1"]
    again = list(plane_tasks(tmp_path, keypoints=200))
    assert all(np.array_equal(a.patches, b.patches) for a, b in zip(tasks, again, strict=True))


def test_window_is_the_middle():
    ramp = np.tile(np.arange(64, dtype=np.uint8) * 3, (2, 64, 1))
    cut = window(ramp, 2.0)
    assert cut.shape == (2, 32, 32)
    assert np.allclose(cut[0, 0], np.arange(16, 48) * 3, atol=2)
