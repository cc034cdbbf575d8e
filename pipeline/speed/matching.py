"""Two sets of descriptors to mutual matches with a ratio test: ours and everybody's, at the same counts; and whole
stages of matching, from file to file, against pycolmap's."""

import shutil
import tempfile
from collections.abc import Callable
from functools import partial
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.descriptors.desdis import DesDis
from pipeline.matchers import MatcherOptions, match, match_pairs, together
from pipeline.speed.timing import Contender, interleaved, timing_table

Pairs = set[tuple[int, int]]
RATIO = DesDis.max_ratio


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
    options = MatcherOptions(max_ratio=RATIO)

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


def matching_stages(photographs: list[np.ndarray], keypoints: int, describer: Any, threads: int, rounds: int) -> str:
    """All pairs of grey photographs (H, W) uint8: our stage on DesDis, pycolmap's on SIFT, each with `keypoints` rows a
    photograph, as far as it finds them. Neither verifies."""
    import h5py
    import pycolmap

    from pipeline.files import features as feature_files
    from pipeline.files import matches as match_files
    from pipeline.speed.describing import detect
    from pipeline.stages.extract import upright
    from pipeline.stages.match import match as match_stage
    from pipeline.types import Features
    from pipeline.workspace import Workspace

    names = [f"{k}.jpg" for k in range(len(photographs))]
    pairs = list(combinations(names, 2))
    with tempfile.TemporaryDirectory() as scratch:
        work = Workspace(Path(scratch) / "ours")
        work.plan({}, overwrite=False)
        with feature_files.appending(work.features, {}) as file:
            for name, grey in zip(names, photographs, strict=True):
                lafs = upright(detect(grey, keypoints, orientations=1))
                size = grey.shape[1], grey.shape[0]
                sets = {"upright": describer.describe(grey, lafs)}
                feature_files.write(file, name, Features(lafs, np.ones(len(lafs), np.float32), sets, size))
        database = Path(scratch) / "theirs.db"
        counts = _sift_database(photographs, names, keypoints, database)
        found: dict[str, int] = {}

        def ours() -> None:
            work.matches.unlink(missing_ok=True)
            ratio = MatcherOptions(max_ratio=RATIO)
            matcher = partial(match_pairs, options=ratio)
            match_stage(pairs, matcher, work, 1024, threads, lambda done: None, together=together("cpu"))

        def theirs() -> None:
            copy = database.with_suffix(".copy")
            shutil.copy(database, copy)
            options = pycolmap.FeatureMatchingOptions(num_threads=threads, skip_geometric_verification=True)
            pycolmap.match_exhaustive(copy, options)
            with pycolmap.Database.open(copy) as db:
                found["theirs"] = int(sum(db.read_num_matches()[1]))

        contenders = {"pycolmap match_exhaustive, SIFT": Contender(theirs, len(pairs))}
        contenders["our stage, DesDis"] = Contender(ours, len(pairs))
        timings = interleaved(contenders, rounds)
        with h5py.File(work.matches, "r") as file:
            found["ours"] = sum(len(match_files.read(file, a, b).indices) for a, b in pairs)
        text = timing_table(contenders, timings, "pycolmap match_exhaustive, SIFT", "pair")
    return (
        f"{text}\n\n{len(pairs)} pairs; keypoints a photograph: pycolmap {np.mean(counts):,.0f}; matches: pycolmap "
        f"{found['theirs']:,} (ratio 0.8), ours {found['ours']:,} (ratio {RATIO})."
    )


def _sift_database(photographs: list[np.ndarray], names: list[str], keypoints: int, path: Path) -> list[int]:
    """COLMAP's SIFT of the photographs, cut to at most `keypoints`; returns how many there are."""
    import pycolmap

    pycolmap.logging.minloglevel = pycolmap.logging.WARNING.value
    options = pycolmap.FeatureExtractionOptions()
    options.sift.max_num_features = keypoints
    sift = pycolmap.FeatureExtractor.create(options, pycolmap.Device.cpu)
    assert sift is not None
    counts = []
    with pycolmap.Database.open(path) as database:
        for k, (name, grey) in enumerate(zip(names, photographs, strict=True), 1):
            found, described = sift.extract_from_uint8_array(grey)
            rows = np.asarray(described.data)[:keypoints]
            xy = np.array([(point.x, point.y) for point in found], np.float32)[:keypoints]
            camera = pycolmap.Camera(
                model="SIMPLE_PINHOLE", width=grey.shape[1], height=grey.shape[0], camera_id=k,
                params=[1.2 * max(grey.shape), grey.shape[1] / 2, grey.shape[0] / 2],
            )  # fmt: skip
            database.write_camera(camera, use_camera_id=True)
            database.write_image(pycolmap.Image(name=name, camera_id=k, image_id=k), use_image_id=True)
            database.write_keypoints(k, xy)
            database.write_descriptors(k, pycolmap.FeatureDescriptors(pycolmap.FeatureExtractorType.SIFT, rows))
            counts.append(len(rows))
    return counts
