"""Every runtime computes what the network in eval mode does, for every architecture."""

import shutil

import cv2
import numpy as np
import pytest
import torch

from desdis import architectures, runtimes
from desdis.errors import UserError
from desdis.patches import extract_patches
from desdis.runtimes import bf16, int8
from desdis.runtimes.fold import fold
from desdis.runtimes.torch import TorchRuntime

# L2 distance of unit descriptors; rounding the patch to bytes costs 0.015 with the authors' weights.
TOLERANCE = {"torch": 2e-5, "compiled": 2e-5, "onnx": 2e-5, "bf16": 0.04, "int8": 0.2}


def network(architecture: str) -> torch.nn.Module:
    """Random weights with running statistics that are not trivial."""
    torch.manual_seed(0)
    net = architectures.build(architecture)
    generator = torch.Generator().manual_seed(1)
    for name, buffer in net.named_buffers():
        if name.endswith("running_var"):
            buffer.uniform_(0.5, 2.0, generator=generator)
        elif name.endswith("running_mean"):
            buffer.normal_(0, 0.3, generator=generator)
    return net.eval()


def some_patches(n: int = 37) -> np.ndarray:
    noise = np.random.default_rng(0).integers(0, 256, (n, 32, 32)).astype(np.uint8)
    return np.stack([cv2.GaussianBlur(patch, (0, 0), 1.0 + i / n) for i, patch in enumerate(noise)])


@torch.inference_mode()
def reference(net: torch.nn.Module, patches: np.ndarray) -> np.ndarray:
    return net(torch.from_numpy(patches)[:, None].float()).numpy()


NOT_FOR = {("hynet", "bf16"), *((network, "int8") for network in ("hardnet", "sosnet", "hynet"))}  # they say so: below
SLOW = {
    (network, "compiled") for network in ("desdis-8", "desdis-32", "hardnet", "sosnet", "hynet")
}  # ten seconds each
CASES = [
    (architecture, runtime)
    for architecture in ("desdis-8", "desdis-5", "desdis-32", "hardnet", "sosnet", "hynet")
    for runtime in runtimes.NAMES
    if (architecture, runtime) not in NOT_FOR | SLOW
]


@pytest.fixture(scope="module", params=CASES, ids="-".join)
def case(request) -> tuple[str, str]:
    return request.param


@pytest.fixture(scope="module")
def net(case) -> torch.nn.Module:
    return network(case[0])


@pytest.fixture
def runtime(case, net) -> runtimes.Runtime:
    if case[1] == "onnx":
        pytest.importorskip("onnxruntime", reason="onnxruntime is an extra")
    if case[1] == "bf16" and not bf16.supported():
        pytest.skip("bfloat16 needs AVX512-BF16")
    if case[1] == "compiled" and not (shutil.which("c++") or shutil.which("g++")):
        pytest.skip("torch.compile needs a C++ compiler")
    if case[1] == "int8" and not int8.supported():
        pytest.skip("bytes need AVX512-VNNI")
    return runtimes.make(net, case[1])


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_agrees_with_the_network(net, runtime, dtype):
    patches = some_patches().astype(dtype)
    descriptors = runtime(patches)
    assert descriptors.shape == (37, 128) and descriptors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(descriptors, axis=1), 1, atol=1e-5)
    assert np.linalg.norm(descriptors - reference(net, patches), axis=1).max() < TOLERANCE[runtime.name]


def test_one_patch_none_and_many_are_the_same_function(runtime):
    patches = some_patches(5)
    tolerance = TOLERANCE[runtime.name]
    assert runtime(patches[:0]).shape == (0, 128)
    np.testing.assert_allclose(runtime(patches[:1]), runtime(patches)[:1], atol=tolerance)
    many = np.tile(patches, (450, 1, 1))  # more than a chunk
    np.testing.assert_allclose(runtime(many).reshape(450, 5, 128)[-1], runtime(patches), atol=tolerance)


def test_flat_patches_give_finite_unit_vectors(runtime):
    flat = np.stack([np.full((32, 32), value, np.uint8) for value in (0, 7, 255)])
    descriptors = runtime(flat)
    np.testing.assert_allclose(np.linalg.norm(descriptors, axis=1), 1, atol=1e-5)


def test_folding_leaves_no_normalisation_and_the_original_alone():
    net = network("desdis-8")
    before = {name: value.clone() for name, value in net.state_dict().items()}
    folded = fold(net)
    assert not any(isinstance(m, torch.nn.BatchNorm2d | torch.nn.Dropout) for m in folded.modules())
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())


def test_names_and_devices():
    net = network("desdis-8")
    assert runtimes.make(net, "auto").name in runtimes.NAMES
    with pytest.raises(UserError, match="no runtime called 'fast'"):
        runtimes.make(net, "fast")
    with pytest.raises(UserError, match="use runtime torch"):
        runtimes.make(net, "onnx", "cuda")


def test_a_device_cuts_and_describes():
    """The path of a GPU, on CPU tensors: patches cut by torch; then in reduced precision, as there."""
    net, grey = network("desdis-8"), np.tile(some_patches(12), (4, 5, 5))[0]
    rng = np.random.default_rng(0)
    lafs = np.concatenate([rng.uniform(1, 3, (30, 1, 1)) * np.eye(2), rng.uniform(30, 130, (30, 2, 1))], axis=2)
    lafs = lafs.astype(np.float32)
    runtime = TorchRuntime(net)
    expected = runtime(extract_patches(grey.astype(np.float32), lafs, 6.0))
    assert np.linalg.norm(runtime.describe_image(grey, lafs, 6.0) - expected, axis=1).mean() < 0.02
    exact = runtime.describe_image(grey, lafs, 6.0)
    runtime.dtype = torch.bfloat16
    reduced = runtime.describe_image(grey, lafs, 6.0)
    assert 0 < np.linalg.norm(reduced - exact, axis=1).max() < TOLERANCE["bf16"]


def test_bf16_says_what_it_lacks():
    with pytest.raises(UserError, match="runtime bf16: .*; runtime auto"):
        runtimes.make(network("hynet"), "bf16")


@pytest.mark.skipif(not int8.supported(), reason="bytes need AVX512-VNNI")
def test_bytes_are_the_same_in_any_batch_and_the_error_is_small_on_the_whole():
    net, patches = network("desdis-8"), some_patches()
    runtime = runtimes.make(net, "int8")
    many = runtime(np.tile(patches, (40, 1, 1)))  # more than a chunk
    np.testing.assert_array_equal(many, np.tile(runtime(patches), (40, 1)))
    np.testing.assert_array_equal(many[:1], runtime(patches[:1]))
    assert np.linalg.norm(many[:37] - reference(net, patches), axis=1).mean() < 0.06
    assert runtimes.make(net, "auto").name == "int8"


def test_bytes_are_for_light_students_only():
    with pytest.raises(UserError, match="runtime int8: HardNet is no light student.*; runtime auto"):
        runtimes.make(network("hardnet"), "int8")
    assert runtimes.make(network("hardnet"), "auto").name != "int8"


def test_an_unknown_network_falls_back_to_torch():
    assert runtimes.make(torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(1024, 128)), "auto").name == "torch"
