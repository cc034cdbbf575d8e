"""What a GPU makes of it: describing from patches and from photographs, matching in batches, training steps."""

from collections.abc import Callable
from typing import Any

import numpy as np

from pipeline.matchers import MatcherOptions, match_pairs, together
from pipeline.speed.describing import MULTIPLY_ADDS, detect
from pipeline.speed.matching import RATIO
from pipeline.speed.timing import Contender, interleaved, timing_table

WIDTHS = (8, 32)
PRODUCT = "half precision product, multiply-adds"


def on_device(grey: np.ndarray, keypoints: int, device: str, rounds: int, patches: int = 131072) -> str:
    """A photograph (H, W) uint8 and `device` to tables. Every contender ends with its answer in the machine's memory,
    but for the matrix product and the training steps, which end on the device."""
    from desdis import architectures
    from desdis.runtimes.compiled import CompiledRuntime
    from desdis.runtimes.torch import TorchRuntime

    generator = np.random.default_rng(0)
    data = generator.integers(0, 256, (patches, 32, 32), np.uint8)
    lafs = np.resize(detect(grey, keypoints), (keypoints, 2, 3))
    networks = {f"desdis-{width}": architectures.build(f"desdis-{width}").eval() for width in WIDTHS}
    contenders, product = {}, _product(device, min(8192, patches))
    contenders[PRODUCT] = Contender(product, min(8192, patches) ** 3)
    for name, network in networks.items():
        for run in (TorchRuntime(network, device), CompiledRuntime(network, device)):
            contenders[f"{name} {run.name}, patches"] = Contender(lambda run=run: run(data), patches)
            contenders[f"{name} {run.name}, keypoints of a photograph"] = Contender(
                lambda run=run: run.describe_image(grey, lafs, 9.0), keypoints
            )
        contenders[f"{name} training, pairs"] = Contender(
            _training_step(network, device, patches // 128), patches // 128
        )
    timings = interleaved(contenders, rounds)
    rate = timings[PRODUCT].rate
    described = "\n".join(
        f"- {name}: {timing.rate:,.0f} a second"
        + (f", {MULTIPLY_ADDS[name.split()[0]] * timing.rate / rate:.0%} of the product" if "patches" in name else "")
        for name, timing in timings.items()
    )
    return f"{described}\n\n{matching(keypoints, device, rounds)}"


def _product(device: str, size: int) -> Callable[[], Any]:
    import torch

    a = torch.randn(size, size, device=device).to(torch.float16 if device != "cpu" else torch.bfloat16)
    return lambda: (a @ a)[0, 0].item()


def _training_step(network: Any, device: str, pairs: int) -> Callable[[], Any]:
    """A step of the student without augmentation and averaging, the regulariser's teacher being of its own kind."""
    import copy

    import torch

    from desdis.recipe import Recipe, mixed
    from desdis.train import desdis_loss

    recipe, where = Recipe(precision="bfloat16"), torch.device(device)
    student, teacher = copy.deepcopy(network).train().to(device), copy.deepcopy(network).to(device)
    optimiser = torch.optim.AdamW(student.parameters())
    patches = torch.rand((2 * pairs, 1, 32, 32), device=device) * 255

    def call() -> float:
        with mixed(recipe, where):
            embedding = student.embed(patches)
            with torch.no_grad():
                taught = teacher(patches).float()
        anchors, positives = embedding.float().chunk(2)
        loss, _ = desdis_loss(anchors, positives, taught.unflatten(0, (2, -1)), None, recipe, 0)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        return loss.item()

    return call


def matching(keypoints: int, device: str, rounds: int) -> str:
    """As many pairs as are matched at once, against torch's plain way, pair by pair."""
    import torch

    generator = np.random.default_rng(0)

    def unit(rows: np.ndarray) -> np.ndarray:
        return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)

    first = unit(generator.standard_normal((keypoints, 128)))
    noise = generator.standard_normal((together(device), keypoints, 128))
    others = [unit(first[generator.permutation(keypoints)] + 0.05 * each) for each in noise]
    pairs, options = [(first, other) for other in others], MatcherOptions(max_ratio=RATIO)

    def plain() -> None:
        query = torch.from_numpy(first).to(device)
        for other in others:
            similarity = query @ torch.from_numpy(other).to(device).T
            (s, j), (t, i) = similarity.topk(2, dim=1), similarity.topk(2, dim=0)
            good = (1 - s[:, 0] <= RATIO**2 * (1 - s[:, 1])) & (i[0][j[:, 0]] == torch.arange(len(j), device=device))
            (good & (1 - t[0] <= RATIO**2 * (1 - t[1]))[j[:, 0]]).nonzero().cpu()

    contenders = {
        "torch, plain": Contender(plain, len(pairs)),
        "ours (exact)": Contender(lambda: match_pairs(pairs, options, device), len(pairs)),
    }
    return timing_table(contenders, interleaved(contenders, rounds), "torch, plain", "pair")
