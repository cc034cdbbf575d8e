"""Patches to descriptors, and photographs to patches, against the peers and against the machine's arithmetic."""

from collections.abc import Callable
from typing import Any

import numpy as np

from pipeline.speed.timing import Contender, Timing, interleaved, table, timing_table

WIDTHS = (8, 16, 24, 32)
MULTIPLY_ADDS = {f"desdis-{w}": 4608.0 * w * w + 10496 * w for w in WIDTHS} | {
    "HardNet": 39.09e6, "SOSNet": 39.09e6, "HyNet": 39.09e6, "TFeat": 6.30e6,
}  # fmt: skip


def product_rates(rounds: int, size: int = 2048) -> dict[str, float]:
    """Multiply-adds a second of processor time of a large matrix product, by who computes it."""
    import torch

    from desdis.runtimes import int8

    a = torch.randn(size, size)
    half = a.bfloat16()
    contenders = {
        "torch float32": Contender(lambda: a @ a, size**3),
        "torch bfloat16": Contender(lambda: half @ half, size**3),
    }
    if int8.supported():
        product = int8.Product(a, torch.zeros(size), size, step=1.0, zero=0, out=1.0)
        whole = torch.randint(0, 256, (size, size), dtype=torch.uint8)
        contenders["torch int8"] = Contender(lambda: product(whole), size**3)
    try:
        contenders["ONNX Runtime float32"] = Contender(_onnx_product(a.numpy()), size**3)
    except ImportError:
        pass
    return {name: timing.cpu_rate for name, timing in interleaved(contenders, max(5, rounds)).items()}


def _onnx_product(a: np.ndarray) -> Callable[[], Any]:
    import os

    import onnxruntime

    from desdis.runtimes import protobuf

    model = protobuf.model(
        [protobuf.node("MatMul", ["x", "w"], "y")], [protobuf.tensor("w", a)],
        protobuf.port("x", ["N", len(a)]), protobuf.port("y", ["N", len(a)]),
    )  # fmt: skip
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = int(os.environ.get("OMP_NUM_THREADS", 0))
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    return lambda: session.run(None, {"x": a})


def describing(rounds: int, patches: int = 2048) -> str:
    """Patches in memory to descriptors: our runtimes, the authors' network in eager torch, kornia's networks (random
    weights: time does not depend on them)."""
    import torch
    from kornia.feature import HardNet, HyNet, SOSNet, TFeat

    from desdis import architectures, runtimes

    generator = np.random.default_rng(0)
    data = generator.integers(0, 256, (patches, 32, 32)).astype(np.uint8)
    few = torch.from_numpy(data[: patches // 8])[:, None].float() / 255
    many = torch.from_numpy(data)[:, None].float()

    def eager(network: torch.nn.Module, batch: torch.Tensor, chunk: int = 256) -> Callable[[], Any]:
        network = network.eval()

        def call() -> None:
            with torch.inference_mode():
                for part in batch.split(chunk):
                    network(part)

        return call

    contenders = {
        f"{cls.__name__} (kornia, eager)": Contender(eager(cls(pretrained=False), few), len(few))
        for cls in (HardNet, SOSNet, HyNet, TFeat)
    }
    for width in WIDTHS:
        network = architectures.build(f"desdis-{width}").eval()
        contenders[f"desdis-{width} eager (the authors')"] = Contender(eager(network, many), patches)
        for name in runtimes.NAMES:
            try:
                runtime = runtimes.make(network, name)
            except Exception as error:  # a runtime that is not there is a line of the table, not the end
                contenders[f"desdis-{width} {name}"] = Contender(lambda: None, 0, str(error))
                continue
            contenders[f"desdis-{width} {name}"] = Contender(lambda runtime=runtime: runtime(data), patches)
    contenders = {name: contender for name, contender in contenders.items() if contender.amount}
    timings = interleaved(contenders, rounds)
    rates = product_rates(rounds)
    text = timing_table(contenders, timings, "HardNet (kornia, eager)", "patch")
    return f"{text}\n\n{_roofline(timings, rates)}"


def _roofline(timings: dict[str, Timing], rates: dict[str, float]) -> str:
    """What share of a large matrix product's rate each network reaches, a second of processor time."""
    full = max(rate for name, rate in rates.items() if "float32" in name)
    narrow = {"bf16": rates["torch bfloat16"], "int8": rates.get("torch int8", 0.0)}
    rows = []
    for name, timing in timings.items():
        network, runtime = name.split(" ")[:2]
        work = MULTIPLY_ADDS[network] * timing.cpu_rate
        best = narrow.get(runtime, full)
        rows.append([name, f"{work / 1e9:.1f}", f"{work / best:.0%}", f"{work / rates['torch float32']:.0%}"])
    products = ", ".join(f"{name} {rate / 1e9:.0f}" for name, rate in rates.items())
    header = [
        "network",
        "G multiply-adds / CPU s",
        "of the best product of its precision",
        "of torch's float32 product",
    ]
    said = f"A 2048 x 2048 x 2048 product, G multiply-adds a second of processor time: {products}."
    return f"{said}\n\n{table(header, rows)}"


def cutting(photographs: list[np.ndarray], keypoints: int, rounds: int) -> str:
    """Photographs and frames to patches: ours and kornia's pyramid."""
    import torch
    from kornia.feature import extract_patches_from_pyramid, extract_patches_simple

    from desdis.patches import extract_patches

    grey = photographs[0]
    frames = detect(grey, keypoints)
    lafs = torch.from_numpy(frames.copy())[None]
    lafs[..., :2] *= 9.0
    lafs[..., 2] -= 0.5
    image = torch.from_numpy(grey)[None, None].float() / 255

    def kornia(function: Callable[..., Any]) -> Callable[[], Any]:
        def call() -> None:
            with torch.inference_mode():
                function(image, lafs, 32)

        return call

    floats = grey.astype(np.float32)
    contenders = {
        "kornia extract_patches_from_pyramid": Contender(kornia(extract_patches_from_pyramid), len(frames)),
        "kornia extract_patches_simple": Contender(
            kornia(extract_patches_simple), len(frames), "no anti-aliasing at all"
        ),
        "ours, bytes": Contender(lambda: extract_patches(grey, frames, 9.0), len(frames)),
        "ours, float32": Contender(lambda: extract_patches(floats, frames, 9.0), len(frames)),
    }
    timings = interleaved(contenders, rounds)
    return timing_table(contenders, timings, "kornia extract_patches_from_pyramid", "patch")


def detect(grey: np.ndarray, keypoints: int, orientations: int = 2) -> np.ndarray:
    """(N, 2, 3) frames of our detector's defaults, at most so many orientations a place."""
    from pipeline.detectors.dog import Dog
    from pipeline.types import Image

    image = Image(grey, np.repeat(grey[..., None], 3, axis=2))
    return Dog(Dog.Options(max_orientations=orientations), keypoints).detect(image).lafs
