"""Difference of Gaussians: OpenCV's SIFT detector, placed exactly (its "precise upscale") and cut to a budget.

The budget counts places: a second orientation of one place is another frame, not another keypoint.
"""

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from pipeline.types import Detected, Image

STRONGEST = 1.5  # frames read for a keypoint of the budget; photographs have 1.1 to 1.2 frames at a place


class Dog:
    """SIFT's detector (Lowe 2004) as OpenCV implements it."""

    class Options(BaseModel):
        model_config = ConfigDict(extra="forbid", frozen=True)
        contrast_threshold: float = Field(
            default=0.0067, ge=0, le=1, description="weakest response kept, of the grey range (COLMAP's peak threshold)"
        )
        edge_threshold: float = Field(default=10.0, gt=1, description="largest ratio of the principal curvatures")
        max_orientations: int = Field(default=2, ge=1, le=4, description="frames kept at one place")
        selection: Literal["strongest", "even"] = Field(
            default="strongest", description="what stays when the budget cuts: the strongest, or evenly over the image"
        )

    def __init__(self, options: Options, max_keypoints: int, device: str = "cpu"):
        self.options, self.max_keypoints = options, max_keypoints
        self._all, self._strongest = self._sift(0), self._sift(int(STRONGEST * max_keypoints))

    def _sift(self, frames: int) -> Any:
        """OpenCV's detector that reports that many of the strongest frames and those equal to the last, 0 for all."""
        import cv2

        options = self.options
        # Without precise upscale OpenCV reports every centre 0.25 px off.
        return cv2.SIFT.create(
            nfeatures=frames,
            nOctaveLayers=3,
            contrastThreshold=options.contrast_threshold,
            edgeThreshold=options.edge_threshold,
            sigma=1.6,
            enable_precise_upscale=True,
        )

    def detect(self, image: Image) -> Detected:
        # A frame costs a microsecond to read: weak ones are left where they cannot be needed. Masks hide any number.
        few = self.options.selection == "strongest" and image.mask is None
        keypoints = (self._strongest if few else self._all).detect(image.grey, None)
        table, rank = _table(keypoints, image)
        cut = few and len(keypoints) >= int(STRONGEST * self.max_keypoints)
        if cut and np.count_nonzero(rank == 0) < self.max_keypoints:  # more orientations than expected
            table, rank = _table(self._all.detect(image.grey, None), image)
        places = table[rank == 0]
        if len(places) > self.max_keypoints:
            order = np.arange(len(places))
            if self.options.selection == "even":
                order = _even_order(places, image.grey.shape, self.max_keypoints)
            kept = np.zeros(len(places), bool)
            kept[order[: self.max_keypoints]] = True
        else:
            kept = np.ones(len(places), bool)
        table = table[kept[np.cumsum(rank == 0) - 1] & (rank < self.options.max_orientations)]
        angle = np.deg2rad(table[:, 3])
        c, s, sigma = np.cos(angle), np.sin(angle), table[:, 2]
        lafs = np.empty((len(table), 2, 3), np.float32)
        lafs[:, 0, 0], lafs[:, 0, 1], lafs[:, 1, 0], lafs[:, 1, 1] = sigma * c, -sigma * s, sigma * s, sigma * c
        lafs[:, :, 2] = table[:, :2] + 0.5  # OpenCV counts from the top-left pixel's centre, COLMAP from its corner
        return Detected(lafs, table[:, 4].astype(np.float32))


def _table(keypoints: Sequence[Any], image: Image) -> tuple[np.ndarray, np.ndarray]:
    """OpenCV's keypoints that can be used, (N, 5) float64 with x, y, sigma, angle in degrees and response, strongest
    first and in an order that does not depend on OpenCV's; and how many rows of the same place come before each."""
    table = np.array([(*k.pt, k.size / 2, k.angle, k.response) for k in keypoints], np.float64).reshape(-1, 5)
    table = _within(table, image)
    table = table[np.lexsort((table[:, 3], table[:, 2], table[:, 1], table[:, 0], -table[:, 4]))]
    return table, _rank_at_place(table)


def _within(table: np.ndarray, image: Image) -> np.ndarray:
    """Rows inside the image and, where there is a mask, on it."""
    height, width = image.grey.shape
    x, y = np.rint(table[:, 0]).astype(int), np.rint(table[:, 1]).astype(int)
    keep = (x >= 0) & (y >= 0) & (x < width) & (y < height)
    if image.mask is not None:
        keep &= image.mask[y.clip(0, height - 1), x.clip(0, width - 1)]
    return table[keep]


def _rank_at_place(table: np.ndarray) -> np.ndarray:
    """For each row (sorted so that rows of one place are neighbours) how many rows of its place come before it."""
    if not len(table):
        return np.zeros(0, int)
    new = np.ones(len(table), bool)
    new[1:] = (table[1:, :3] != table[:-1, :3]).any(axis=1)
    start = np.maximum.accumulate(np.where(new, np.arange(len(table)), 0))
    return np.arange(len(table)) - start


def _even_order(table: np.ndarray, shape: tuple[int, int], budget: int) -> np.ndarray:
    """Order of the rows (strongest first) that fills a grid evenly: each cell's strongest, then its second, ...

    The grid has about one cell for eight keypoints of the budget, so strength still decides within a neighbourhood.
    """
    side = np.sqrt(shape[0] * shape[1] * 8 / budget)
    cell = (table[:, 1] // side).astype(int) * (int(shape[1] // side) + 1) + (table[:, 0] // side).astype(int)
    by_cell = np.argsort(cell, kind="stable")
    sorted_cells = cell[by_cell]
    start = np.searchsorted(sorted_cells, sorted_cells)
    rank = np.empty(len(table), int)
    rank[by_cell] = np.arange(len(table)) - start
    return np.argsort(rank, kind="stable")
