"""What every descriptor must do: the same checks for each member of the family."""

import cv2
import numpy as np
import pytest

from desdis.errors import UserError
from pipeline.descriptors import DESCRIPTORS
from pipeline.detectors import load
from tests.pipeline.pictures import WEIGHTS, picture, shared

FILES = {
    "desdis": "official/DesDis-32.pth",
    "tfeat": "teachers/tfeat-liberty.params",
    "mkd": "teachers/mkd-concat-64.pth",
}
NETWORKS = {
    "hardnet": "HardNet",
    "sosnet": "SOSNet",
    "hynet": "HyNet",
}  # random here: their files are too large to keep


@pytest.fixture(scope="module", params=sorted(DESCRIPTORS))
def name(request) -> str:
    return request.param


@pytest.fixture(scope="module")
def descriptor(name, tmp_path_factory):
    return make(name, tmp_path_factory.mktemp("weights"))


def make(name: str, folder, **options):
    method = load(DESCRIPTORS, name)
    weights = None
    if name in FILES:
        weights = shared(FILES[name])
    elif name in NETWORKS:
        weights = str(random_weights(NETWORKS[name], folder))
    return method(method.Options(**options), weights=weights, device="cpu")


def random_weights(kornia_class: str, folder):
    import kornia.feature as KF
    import torch

    torch.manual_seed(0)
    path = folder / f"{kornia_class}.pth"
    torch.save({"state_dict": getattr(KF, kornia_class)(False).state_dict()}, path)
    return path


@pytest.fixture(scope="module")
def grey() -> np.ndarray:
    return cv2.cvtColor(picture(240, 320, seed=3), cv2.COLOR_RGB2GRAY)


def frames(centres: np.ndarray, sigma: np.ndarray, degrees: np.ndarray) -> np.ndarray:
    """Frames at (N, 2) centres, turned clockwise on screen."""
    angle = np.radians(degrees)
    lafs = np.empty((len(centres), 2, 3), np.float32)
    lafs[:, 0, 0], lafs[:, 0, 1] = sigma * np.cos(angle), -sigma * np.sin(angle)
    lafs[:, 1, 0], lafs[:, 1, 1] = sigma * np.sin(angle), sigma * np.cos(angle)
    lafs[:, :, 2] = centres
    return lafs


@pytest.fixture(scope="module")
def lafs() -> np.ndarray:
    generator = np.random.default_rng(0)
    centres = generator.uniform((90, 70), (230, 170), (40, 2))
    return frames(centres, generator.uniform(1.8, 3.5, 40), generator.uniform(0, 360, 40))


def test_shape_type_and_length(descriptor, grey, lafs):
    described = descriptor.describe(grey, lafs)
    assert described.dtype == np.float32 and described.shape[0] == len(lafs) and described.ndim == 2
    assert 32 <= described.shape[1] <= 512
    assert np.isfinite(described).all()
    np.testing.assert_allclose(np.linalg.norm(described, axis=1), 1, atol=1e-5)
    sha256 = descriptor.weights_sha256
    assert sha256 is None or len(sha256) == 64


def test_no_frame_and_one_frame(descriptor, grey, lafs):
    whole = descriptor.describe(grey, lafs)
    assert descriptor.describe(grey, lafs[:0]).shape == (0, whole.shape[1])
    one = descriptor.describe(grey, lafs[:1])
    assert one.shape == (1, whole.shape[1])
    np.testing.assert_allclose(one[0], whole[0], atol=1e-4)


def test_same_frames_same_answer_in_any_order(descriptor, grey, lafs):
    whole = descriptor.describe(grey, lafs)
    np.testing.assert_array_equal(descriptor.describe(grey, lafs), whole)
    np.testing.assert_allclose(descriptor.describe(grey, lafs[::-1])[::-1], whole, atol=1e-4)


def test_frames_at_the_edge_and_flat_patches_have_unit_length(descriptor, grey):
    corners = frames(np.array([[0, 0], [319.5, 239.5], [1.0, 120.0]]), np.full(3, 4.0), np.zeros(3))
    assert np.isfinite(descriptor.describe(grey, corners)).all()
    if type(descriptor).__name__ not in ("SIFT", "RootSIFT"):  # no gradient, no histogram: SIFT's zero is its own
        flat = descriptor.describe(np.full_like(grey, 77), corners)
        np.testing.assert_allclose(np.linalg.norm(flat, axis=1), 1, atol=1e-5)


@pytest.mark.parametrize("degrees", [90, 180, 37])
def test_turned_picture_with_turned_frames(descriptor, grey, lafs, degrees):
    """A picture turned clockwise on screen, its frames turned with it: nearly the same descriptors, and far nearer
    than with frames left as they were or turned the wrong way."""
    height, width = grey.shape
    side = 480
    turn = cv2.getRotationMatrix2D((0, 0), -degrees, 1.0)  # OpenCV's positive angle is counter-clockwise on screen
    turn[:, 2] = np.array([side / 2, side / 2]) - turn[:, :2] @ [width / 2, height / 2]
    shifted = turn.copy()
    shifted[:, 2] += turn[:, :2] @ [0.5, 0.5] - 0.5  # OpenCV warps pixels counted from the first one's centre
    turned_grey = cv2.warpAffine(grey, shifted, (side, side), flags=cv2.INTER_CUBIC)

    def turned(linear: np.ndarray) -> np.ndarray:
        centres = lafs[:, :, 2] @ turn[:, :2].T + turn[:, 2]
        return np.concatenate([linear @ lafs[:, :, :2], centres[:, :, None]], axis=2).astype(np.float32)

    def agreement(frames: np.ndarray) -> np.ndarray:
        return (descriptor.describe(turned_grey, frames) * descriptor.describe(grey, lafs)).sum(axis=1)

    right, still, wrong = (agreement(turned(m)) for m in (turn[:, :2], np.eye(2), turn[:, :2].T))
    assert np.median(right) > 0.93, np.median(right)
    assert np.median(right) > np.median(still) + 0.02
    if degrees != 180:
        assert np.median(right) > np.median(wrong) + 0.02


def test_contrast_and_brightness(descriptor, name, grey, lafs):
    described = descriptor.describe(grey, lafs)
    brightness = 0 if name == "hynet" else 60  # HyNet takes contrast away and leaves brightness
    changed = np.clip(np.rint(grey * 0.6 + brightness), 0, 255).astype(np.uint8)
    agreement = (described * descriptor.describe(changed, lafs)).sum(axis=1)
    assert np.median(agreement) > 0.98, np.median(agreement)


def test_magnification_widens_the_patch(name, tmp_path, grey, lafs):
    if "magnification" not in load(DESCRIPTORS, name).Options.model_fields:
        return
    half = lafs.copy()
    half[:, :, :2] /= 2
    wide, narrow = make(name, tmp_path, magnification=12.0), make(name, tmp_path, magnification=6.0)
    np.testing.assert_allclose(wide.describe(grey, half), narrow.describe(grey, lafs), atol=1e-3)


def test_no_weights_and_no_network_says_what_and_where(monkeypatch, tmp_path):
    import urllib.request
    from urllib.error import URLError

    import torch

    def unreachable(*_args, **_kwargs):
        raise URLError("no route")

    monkeypatch.setattr(urllib.request, "urlopen", unreachable)
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    for name in ("hardnet", "sosnet", "hynet", "tfeat", "mkd"):
        method = load(DESCRIPTORS, name)
        with pytest.raises(UserError, match=rf"{name}: .*cannot be downloaded.*put it at .*descriptor\.weights=FILE"):
            method(method.Options(), weights=None)


def test_weights_are_fetched_once_from_the_first_source_that_has_them(monkeypatch, tmp_path):
    """Against a server of our own: the first source answers 404, the second has the file."""
    import http.server
    import threading
    from functools import partial

    import torch

    from pipeline import kornia_weights

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *args):
            pass

    (tmp_path / "served").mkdir()
    torch.save({"x": torch.ones(3)}, tmp_path / "served/net.pth")
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    with http.server.HTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(tmp_path / "served"))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        host = f"http://127.0.0.1:{server.server_port}"
        urls = [f"{host}/absent/net.pth", f"{host}/net.pth"]
        state, sha256 = kornia_weights.load("net", None, urls, "descriptor.weights")
        server.shutdown()
    assert torch.equal(state["x"], torch.ones(3)) and len(sha256) == 64
    again, _ = kornia_weights.load("net", None, urls, "descriptor.weights")  # the server is gone: from the cache
    assert torch.equal(again["x"], state["x"])


def test_wrong_files_are_named(tmp_path):
    method = load(DESCRIPTORS, "hardnet")
    with pytest.raises(UserError, match="no weights file"):
        method(method.Options(), weights=str(tmp_path / "absent.pth"))
    (tmp_path / "text.pth").write_text("not weights")
    with pytest.raises(UserError, match=r"text\.pth is not a weights file"):
        method(method.Options(), weights=str(tmp_path / "text.pth"))
    with pytest.raises(UserError, match="do not fit the network"):
        method(method.Options(), weights=str(random_weights("SOSNet", tmp_path)))


def test_hardtfeat_is_tfeats_body_under_other_names(grey, lafs):
    method = load(DESCRIPTORS, "tfeat")
    described = method(method.Options(), weights=shared("teachers/HardTFeat.pth")).describe(grey, lafs)
    assert described.shape == (len(lafs), 128) and np.linalg.matrix_rank(described) > 20


@pytest.mark.skipif(not WEIGHTS.is_dir(), reason="needs ../shared/weights beside the repository")
@pytest.mark.parametrize(("kernel", "width"), [("cart", 63), ("polar", 128), ("concat", 128)])
def test_mkd_kernels(grey, lafs, kernel, width):
    method = load(DESCRIPTORS, "mkd")
    file = shared(f"teachers/mkd-{kernel}-64.pth")
    assert method(method.Options(kernel=kernel), weights=file).describe(grey, lafs).shape == (len(lafs), width)
    other = "polar" if kernel == "cart" else "cart"
    with pytest.raises(UserError, match=rf"descriptor\.mkd\.kernel={other}"):
        method(method.Options(kernel=other), weights=file)
