"""Two sets of descriptors to mutual matches with a ratio test: ours and everybody's, at the same counts."""

from collections.abc import Callable
from typing import Any

import numpy as np

from pipeline.matchers import RATIO, MatcherOptions, match
from pipeline.speed.timing import Contender, interleaved, timing_table

Pairs = set[tuple[int, int]]


def matching(d0: np.ndarray, d1: np.ndarray, rounds: int) -> str:
    """(N, D) and (M, D) unit descriptors of two photographs. Notes say how many of the plain matches each finds."""
    methods = _methods(d0, d1)
    reference = methods["torch, plain"]()
    contenders = {}
    for name, method in methods.items():
        found = method()
        share = len(found & reference) / max(1, len(reference))
        others = len(found - reference)
        contenders[name] = Contender(method, 1, f"{len(found)} matches, {share:.2%} of plain, {others} others")
    return timing_table(contenders, interleaved(contenders, rounds), "torch, plain", "pair")


def _methods(d0: np.ndarray, d1: np.ndarray) -> dict[str, Callable[[], Pairs]]:
    import cv2
    import torch
    from kornia.feature import match_smnn

    first, second = torch.from_numpy(d0), torch.from_numpy(d1)
    options = MatcherOptions()

    def ours() -> Pairs:
        return set(map(tuple, match(d0, d1, options).indices.tolist()))

    def plain() -> Pairs:
        similarity = first @ second.T
        (s, j), (t, i) = similarity.topk(2, dim=1), similarity.topk(2, dim=0)
        return mutual((2 - 2 * s).clamp_min(0).sqrt(), j[:, 0], (2 - 2 * t.T).clamp_min(0).sqrt(), i[0])

    def kornia() -> Pairs:
        return set(map(tuple, match_smnn(first, second, RATIO)[1].tolist()))

    def opencv() -> Pairs:
        matcher = cv2.BFMatcher(cv2.NORM_L2)
        there, back = matcher.knnMatch(d0, d1, 2), matcher.knnMatch(d1, d0, 2)
        return mutual(*_table(there), *_table(back))

    def _table(found: Any) -> tuple[torch.Tensor, torch.Tensor]:
        distances = torch.tensor([[m.distance for m in row] for row in found])
        return distances, torch.tensor([row[0].trainIdx for row in found])

    def faiss_flat() -> Pairs:
        import faiss  # pyright: ignore[reportMissingImports]

        results = []
        for queries, base in ((d0, d1), (d1, d0)):
            index = faiss.IndexFlatL2(base.shape[1])
            index.add(base)
            squared, nearest = index.search(queries, 2)
            results += [torch.from_numpy(squared).clamp_min(0).sqrt(), torch.from_numpy(nearest)[:, 0]]
        return mutual(*results)

    methods = {
        "ours (exact)": ours,
        "torch, plain": plain,
        "kornia match_smnn": kornia,
        "OpenCV BFMatcher, both ways": opencv,
    }
    try:
        import faiss  # noqa: F401 # pyright: ignore[reportMissingImports]

        methods["faiss flat, both ways"] = faiss_flat
    except ImportError:
        pass
    return methods


def mutual(d: Any, j: Any, e: Any, i: Any) -> Pairs:
    """Distances (N, 2) and nearest (N,) there, distances (M, 2) and nearest (M,) back, to the pairs that pass."""
    import torch

    rows = torch.arange(len(j))
    good = (d[:, 0] <= RATIO * d[:, 1]) & (e[j, 0] <= RATIO * e[j, 1]) & (i[j] == rows)
    return set(zip(rows[good].tolist(), j[good].tolist(), strict=True))
