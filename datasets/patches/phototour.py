"""UBC PhotoTour, the Brown patch sets (Liberty, Notre Dame, Yosemite): read, written, and turned into a patch set.

    python -m datasets.patches.phototour import LIBERTY SET     # for python -m desdis.train patches=SET
    python -m datasets.patches.phototour export SET FOLDER      # what others train and test with

    patches0000.bmp ...   1024x1024 grey pages of 16x16 patches of 64x64, row by row; the last page's rest is empty
    info.txt              a line a patch: its 3D point, and a number that nobody needs
    m50_<n>_<n>_0.txt     a line a pair: patch, point, 0, patch, point, 0, 0; a match where the points are equal

Format: Winder & Brown, CVPR 2007; http://matthewalunbrown.com/patchdata/patchdata.html.
"""

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from datasets.patches.patch_set import FILES, read_manifest
from datasets.patches.plain_set import PlainScene, group_rows, write_plain_set
from desdis.errors import UserError, command

SIDE, GRID = 64, 16  # pixels of a patch, patches of a page's side
PAGE = GRID * GRID


def read_points(folder: Path) -> np.ndarray:
    """(N,) int64: the 3D point of each patch, from info.txt. Raises UserError."""
    try:
        points = np.loadtxt(folder / "info.txt", dtype=np.int64, usecols=0, ndmin=1)
    except (OSError, ValueError) as error:
        raise UserError(f"{folder}/info.txt cannot be read ({error}); a PhotoTour set has one line a patch") from error
    return points


def read_pages(folder: Path) -> Iterator[np.ndarray]:
    """(<= 256, 64, 64) uint8 of one page after the other; the last is cut to info.txt's count. Raises UserError."""
    import cv2

    left = len(read_points(folder))
    for number in range((left + PAGE - 1) // PAGE):
        path = folder / f"patches{number:04d}.bmp"
        page = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
        if page is None or page.shape != (GRID * SIDE, GRID * SIDE):
            raise UserError(f"{path} is absent or no 1024x1024 picture; info.txt names {left} more patches: fetch it")
        patches = page.reshape(GRID, SIDE, GRID, SIDE).swapaxes(1, 2).reshape(PAGE, SIDE, SIDE)
        yield patches[: min(PAGE, left)]
        left -= PAGE


def read_patches(folder: Path) -> np.ndarray:
    """(N, 64, 64) uint8: all patches in memory (Liberty: 1.8 GB)."""
    return np.concatenate(list(read_pages(Path(folder))))


def read_pairs(path: Path) -> np.ndarray:
    """(M, 3) int64 patch, patch, label (1 match, 0 not) of an m50 list. Raises UserError."""
    try:
        table = np.loadtxt(path, dtype=np.int64, ndmin=2)
    except (OSError, ValueError) as error:
        raise UserError(f"{path} is no list of pairs ({error})") from error
    if table.shape[1] < 6:
        raise UserError(f"{path} has {table.shape[1]} numbers a line; a pair has patch point 0 patch point 0")
    return np.column_stack([table[:, 0], table[:, 3], table[:, 1] == table[:, 4]])


def write_phototour(folder: Path, patches: np.ndarray, points: np.ndarray, pairs: np.ndarray) -> None:
    """patches (N, 64, 64) uint8, points (N,) ints, pairs (M, 3) row, row, label. M is part of the list's name.

    Raises UserError on patches of another size, or a label that contradicts the points.
    """
    import cv2

    if patches.shape[1:] != (SIDE, SIDE) or patches.dtype != np.uint8 or len(patches) != len(points):
        raise UserError(
            f"PhotoTour's patches are uint8 64x64, one point each; these are {patches.dtype} {patches.shape}"
        )
    a, b, label = np.asarray(pairs).reshape(-1, 3).T
    if ((points[a] == points[b]) != label.astype(bool)).any():
        raise UserError("a pair's label contradicts its points: a PhotoTour list tells a match by equal points")
    folder.mkdir(parents=True, exist_ok=True)
    for number, begin in enumerate(range(0, len(patches), PAGE)):
        page = np.zeros((PAGE, SIDE, SIDE), np.uint8)
        part = patches[begin : begin + PAGE]
        page[: len(part)] = part
        picture = page.reshape(GRID, GRID, SIDE, SIDE).swapaxes(1, 2).reshape(GRID * SIDE, GRID * SIDE)
        if not cv2.imwrite(str(folder / f"patches{number:04d}.bmp"), picture):
            raise UserError(f"cannot write {folder}/patches{number:04d}.bmp; is the disk full?")
    np.savetxt(folder / "info.txt", np.column_stack([points, np.zeros_like(points)]), fmt="%d")
    zero = np.zeros_like(a)
    table = np.column_stack([a, points[a], zero, b, points[b], zero, zero])
    np.savetxt(folder / f"m50_{len(a)}_{len(a)}_0.txt", table, fmt="%d")


def export_set(patch_set: Path, folder: Path) -> None:
    """Write a patch set as PhotoTour: its patches' described window at 64x64, its points and pairs."""
    import cv2

    manifest = read_manifest(patch_set)
    stored = np.load(patch_set / FILES["oriented"], mmap_mode="r")
    u = ((2 * np.arange(SIDE) + 1) / SIDE - 1) / manifest["margin"]  # of the stored patch's half width
    at = ((u + 1) * stored.shape[1] / 2 - 0.5).astype(np.float32)
    x, y = np.meshgrid(at, at)
    patches = np.stack([cv2.remap(patch, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE) for patch in stored])
    write_phototour(folder, patches, np.load(patch_set / "point_ids.npy"), np.load(patch_set / "pairs.npy"))


def import_set(folder: Path, patch_set: Path) -> None:
    """Turn a PhotoTour folder into a patch set that `desdis.train` reads (margin 1, one scene, views unknown).

    Points seen once are left out. Evaluation pairs are the folder's longest m50 list, without pairs whose patches were
    left out, or drawn anew where there is no list.
    """
    keys = read_points(folder)
    rows, point_ids, used = group_rows(keys)
    # Nothing is known of where the points lie: they are set apart, so that none masks another.
    places = np.column_stack([np.arange(len(used)) * 10.0, np.zeros((len(used), 2))])
    scene = PlainScene(folder.name, read_patches(folder)[rows], point_ids, places, np.ones(len(used)))
    lists = sorted(folder.glob("m50_*.txt"), key=lambda path: path.stat().st_size)
    pairs = None
    if lists:
        new_row = np.full(len(keys), -1)
        new_row[rows] = np.arange(len(rows))
        pairs = read_pairs(lists[-1])
        if pairs[:, :2].min(initial=0) < 0 or pairs[:, :2].max(initial=-1) >= len(keys):
            raise UserError(f"{lists[-1]} names a patch beyond the {len(keys)} of info.txt; fetch the set again")
        pairs[:, :2] = new_row[pairs[:, :2]]
        pairs = pairs[(pairs[:, :2] >= 0).all(axis=1)]
    write_plain_set(patch_set, [scene], margin=1.0, magnification=1.0, options={"source": "phototour"}, pairs=pairs)


@command
def main(arguments: list[str] | None = None) -> int:
    """The command line; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m datasets.patches.phototour", description="A PhotoTour folder to a patch set, or back."
    )
    parser.add_argument("what", choices=["import", "export"], help="import: PhotoTour to patch set; export: back")
    parser.add_argument("source", type=Path, help="folder to read")
    parser.add_argument("target", type=Path, help="folder to write; it must be new or empty")
    options = parser.parse_args(arguments)
    if options.target.exists() and not (options.target.is_dir() and not any(options.target.iterdir())):
        raise UserError(f"{options.target} is there and no empty folder; give another")
    (import_set if options.what == "import" else export_set)(options.source, options.target)
    print(options.target)
    return 0


if __name__ == "__main__":
    sys.exit(main())
