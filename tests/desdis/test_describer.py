"""The library's front door."""

import subprocess
import sys

import numpy as np
import pytest
import torch

import desdis
from desdis import architectures
from desdis.checkpoints import save_network
from desdis.patches import extract_patches


@pytest.fixture(scope="module")
def describer(tmp_path_factory) -> desdis.Describer:
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("weights") / "small.safetensors"
    save_network(architectures.build("desdis-4"), path, {})
    return desdis.load(str(path), device="cpu")


def picture() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (100, 140)).astype(np.uint8)


def frames(n: int) -> np.ndarray:
    rng = np.random.default_rng(1)
    a = rng.uniform(1, 3, (n, 1, 1)) * np.eye(2)
    return np.concatenate([a, rng.uniform(20, 80, (n, 2, 1))], axis=2).astype(np.float32)


def test_importing_is_light():
    code = "import sys, desdis; print([m for m in ('torch', 'cv2', 'onnxruntime', 'kornia') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_describe_is_cutting_and_describing(describer):
    lafs = frames(30)
    descriptors = describer.describe(picture(), lafs, magnification=5.0)
    np.testing.assert_array_equal(descriptors, describer.describe_patches(extract_patches(picture(), lafs, 5.0)))
    assert descriptors.shape == (30, 128)
    assert describer.describe(picture(), lafs[:0]).shape == (0, 128)
    assert describer.describe(picture(), np.float32([])).shape == (0, 128)
    np.testing.assert_array_equal(describer.describe(picture(), lafs.tolist(), magnification=5.0), descriptors)
    with pytest.raises(ValueError, match="grey is None: the photograph could not be read"):
        describer.describe(None, lafs)


def test_magnification_has_a_default(describer):
    lafs = frames(3)
    expected = describer.describe(picture(), lafs, magnification=describer.magnification)
    np.testing.assert_array_equal(describer.describe(picture(), lafs), expected)


def test_bytes_and_floats_agree(describer):
    patches = np.random.default_rng(0).integers(0, 256, (9, 32, 32)).astype(np.uint8)
    np.testing.assert_array_equal(
        describer.describe_patches(patches), describer.describe_patches(patches.astype(np.float32))
    )


@pytest.mark.parametrize(
    ("patches", "message"),
    [
        (np.zeros((3, 64, 64), np.uint8), "resample"),
        (np.zeros((32, 32), np.uint8), "must be"),
        (np.zeros((3, 32, 32), np.float64), "uint8 or float32"),
        (np.full((3, 32, 32), 0.5, np.float32), "multiply"),
        (np.full((3, 32, 32), 300, np.float32), "outside"),
        (np.full((3, 32, 32), np.nan, np.float32), "not finite"),
    ],
)
def test_patches_of_another_kind_are_refused(describer, patches, message):
    with pytest.raises(ValueError, match=message):
        describer.describe_patches(patches)


@pytest.mark.parametrize("device", ["cpu", "cpu:0"])  # the second by the way of a GPU: cut and described there
@pytest.mark.parametrize(
    ("grey", "lafs", "message"),
    [
        (picture().astype(np.float32) / 255, frames(3), "multiply"),
        (picture().astype(np.float64), frames(3), "uint8 or float32"),
        (np.stack([picture()] * 3, axis=2), frames(3), "must be"),
        (np.full((50, 50), np.nan, np.float32), frames(3), "not finite"),
        (picture(), frames(3) * np.nan, "not finite"),
        (picture(), frames(3).transpose(0, 2, 1), "must be"),
    ],
)
def test_photographs_and_frames_of_another_kind_are_refused(describer, device, grey, lafs, message):
    with pytest.raises(ValueError, match=message):
        desdis.load(describer.name, device=device).describe(grey, lafs)


def test_a_dark_corner_of_a_good_photograph_is_described(describer):
    dark = np.full((200, 200), 0.6, np.float32)
    dark[150:] = 200
    lafs = np.tile(np.float32([[1, 0, 40], [0, 1, 40]]), (2, 1, 1))
    np.testing.assert_allclose(np.linalg.norm(describer.describe(dark, lafs), axis=1), 1, atol=1e-5)


def test_in_kornia(describer):
    kornia = pytest.importorskip("kornia.feature")
    lafs = frames(6)
    inside = lafs.copy()
    inside[:, :, :2] *= describer.magnification
    inside[:, :, 2] -= 0.5  # kornia counts from the first pixel's centre
    image = torch.from_numpy(picture())[None, None].float() / 255
    descriptor = kornia.LAFDescriptor(describer.as_module(), patch_size=32)
    with torch.inference_mode():
        theirs = descriptor(image, torch.from_numpy(inside)[None])[0].numpy()
    np.testing.assert_allclose(np.linalg.norm(theirs, axis=1), 1, atol=1e-5)
    assert ((theirs * describer.describe(picture(), lafs)).sum(axis=1) > 0.9).all()  # kornia smooths otherwise


def test_what_is_not_there(describer):
    with pytest.raises(desdis.UserError, match="device nonsense"):
        desdis.load("desdis-8", device="nonsense")
    with pytest.raises(desdis.UserError, match="device cpux"):
        desdis.load("desdis-8", device="cpux")
    with pytest.raises(desdis.UserError, match="no weights called"):
        desdis.load("desdis-7")
    if not torch.cuda.is_available():
        with pytest.raises(desdis.UserError, match="torch sees no GPU"):
            desdis.load("desdis-32", device="cuda")


def test_what_it_tells_of_itself(describer):
    assert len(describer.sha256) == 64 and describer.name.endswith("small.safetensors")
