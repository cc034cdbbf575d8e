import numpy as np
import pytest
import torch

from desdis.architectures import LightStudent
from desdis.checkpoints import save_network
from desdis.errors import UserError
from pipeline.protocols.patch_methods import cost, patch_method, patches_per_second


@pytest.fixture(scope="module")
def patches() -> np.ndarray:
    import cv2

    noise = np.random.default_rng(0).standard_normal((1203, 32, 32)).astype(np.float32)
    return np.array([np.clip(128 + 250 * cv2.GaussianBlur(n, (0, 0), 2), 0, 255) for n in noise]).astype(np.uint8)


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("run") / "desdis-8.safetensors"
    save_network(LightStudent(8).eval(), path, {})
    return path


def test_multiply_adds_are_the_published_ones():
    for width, parameters, adds in ((8, 80_712, 0.379e6), (32, 502_176, 5.054e6)):
        assert cost(LightStudent(width).eval()) == (parameters, pytest.approx(adds, rel=2e-3))


def test_ours_by_file(weights, patches):
    method = patch_method(str(weights))
    assert method.name.endswith("/desdis-8")
    assert method.parameters == 80_712
    assert np.allclose(np.linalg.norm(method.describe(patches[:50]), axis=1), 1, atol=1e-5)
    assert patches_per_second(method, count=256, repeats=1) > 0


def test_a_peer_sees_exactly_the_patches(tmp_path, patches):
    """The strip gives what the network gives: no neighbour's pixel comes in, also beyond one strip."""
    from kornia.feature import TFeat

    torch.manual_seed(1)
    network = TFeat(pretrained=False).eval()
    torch.save(network.state_dict(), tmp_path / "tfeat.pth")
    method = patch_method(f"tfeat:{tmp_path / 'tfeat.pth'}")
    assert method.name == "tfeat:tfeat"
    assert method.parameters == 599_808
    assert method.multiply_adds == pytest.approx(6.30e6, rel=0.01)
    some = np.concatenate([patches[:3], patches[-3:]])
    with torch.inference_mode():
        want = torch.nn.functional.normalize(network(torch.from_numpy(some).float()[:, None])).numpy()
    found = method.describe(patches)
    assert np.allclose(found[[0, 1, 2, -3, -2, -1]], want, atol=1e-4)
    assert method.describe(patches[:0]).shape == (0, 128)


def test_rootsift_tells_patches_apart(patches):
    method = patch_method("rootsift")
    noisy = np.clip(patches[:100] + np.random.default_rng(1).normal(0, 4, (100, 32, 32)), 0, 255).astype(np.uint8)
    likeness = method.describe(patches[:100]) @ method.describe(noisy).T
    assert (likeness.argmax(axis=1) == np.arange(100)).mean() > 0.95
    assert method.parameters is None
    assert method.describe(patches[:0]).shape == (0, 128)


def test_what_is_not_there_is_named(tmp_path):
    with pytest.raises(UserError, match="no weights called 'desdos-32'"):
        patch_method("desdos-32")
    with pytest.raises(UserError, match="no such file"):
        patch_method(f"tfeat:{tmp_path}/none.pth")
