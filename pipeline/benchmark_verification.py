"""What passes verification by chance: python -m pipeline.benchmark_verification

Uniformly random matches in images of several sizes, with and without a known focal length: the inliers that RANSAC
finds all the same, beside `random_inliers`, which the pipeline's confidence is built on.
"""

import argparse
from concurrent.futures import ThreadPoolExecutor
from itertools import product

import numpy as np

from pipeline.stages.verify import VerifyOptions, confidence, random_inliers, two_view_geometry

SIZES = ((640, 480), (1024, 768), (1536, 1024), (3072, 2048))
COUNTS = (50, 100, 200, 500, 1000, 3000)


def chance_inliers(num_matches: int, size: tuple[int, int], known_focal: bool, max_error: float, seed: int) -> int:
    """Inliers of one random pair, with every bar that turns pairs away taken down."""
    import pycolmap

    rng = np.random.default_rng([num_matches, size[0], seed])
    first, second = (rng.random((num_matches, 2)) * size for _ in range(2))
    camera = pycolmap.Camera(
        model="SIMPLE_PINHOLE", width=size[0], height=size[1], params=[1.2 * max(size), size[0] / 2, size[1] / 2]
    )
    camera.has_prior_focal_length = known_focal
    options = VerifyOptions(max_error=max_error, min_num_inliers=8)
    indices = np.stack([np.arange(num_matches)] * 2, axis=1).astype(np.uint32)
    return len(two_view_geometry(camera, first, camera, second, indices, options, seed, needed=0).inlier_matches)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=6)
    parser.add_argument("--max-error", type=float, default=4.0)
    given = parser.parse_args()
    print("| image | matches | inliers, focal known | unknown | random_inliers | best confidence |")
    print("|---|---|---|---|---|---|")
    for size, count in product(SIZES, COUNTS):
        columns = []
        for known in (True, False):
            with ThreadPoolExecutor() as pool:
                jobs = [
                    pool.submit(chance_inliers, count, size, known, given.max_error, s) for s in range(given.trials)
                ]
                columns.append([job.result() for job in jobs])
        most = max(map(max, columns))
        ranges = " | ".join(f"{min(column)} to {max(column)}" for column in columns)
        expected = random_inliers(count, max(size), given.max_error)
        print(f"| {size[0]} x {size[1]} | {count} | {ranges} | {expected:.0f} | "
              f"{confidence(most, count, max(size), given.max_error):.2f} |", flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
