"""A finished run, opened for reading: what exports and localisation take from an output folder."""

import json
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path

import numpy as np

from desdis.errors import UserError
from pipeline.files import features as feature_files
from pipeline.files import matches as match_files
from pipeline.types import Features, Matches


class FinishedRun:
    """Output folder of run_reconstruction.py. `images` is the photograph folder, where it is no longer at the place
    that the report names."""

    def __init__(self, output: Path, images: Path | None = None):
        self.output, self._images = output, images
        self._features, self._matches = output / "features.h5", output / "matches.h5"
        self.database, self.model = output / "database.db", output / "sparse" / "0"
        for path in (self._features, self._matches, self.database):
            if not path.is_file():
                raise UserError(f"{output}: holds no {path.name}; give the output folder of a finished reconstruction")

    @cached_property
    def names(self) -> list[str]:
        """The photographs that have features, sorted."""
        return feature_files.names(self._features)

    @cached_property
    def pairs(self) -> list[tuple[str, str]]:
        """The pairs that were matched."""
        return sorted(match_files.pairs(self._matches))

    def features(self) -> Iterator[tuple[str, Features]]:
        import h5py

        with h5py.File(self._features, "r") as file:
            for name in self.names:
                yield name, feature_files.read(file, name)

    def matches(self) -> Iterator[tuple[tuple[str, str], Matches]]:
        import h5py

        with h5py.File(self._matches, "r") as file:
            for pair in self.pairs:
                yield pair, match_files.read(file, *pair)

    def inliers(self) -> Iterator[tuple[tuple[str, str], np.ndarray]]:
        """Verified pairs with their inlier matches (K, 2) int32."""
        from pipeline.stages.verify import VerifyOptions, read_two_views
        from pipeline.workspace import Workspace

        for view in read_two_views(Workspace(self.output), VerifyOptions.model_validate({})):
            if len(view.inliers):
                yield view.names, view.inliers

    @cached_property
    def images(self) -> Path:
        """The photograph folder. Raises UserError where it has gone."""
        folder = self._images
        if folder is None:
            report = self.output / "report.json"
            if not report.is_file():
                raise UserError(f"{self.output}: holds no report.json; give the photographs with --images")
            folder = Path(json.loads(report.read_text(encoding="utf-8"))["images"]["root"])
        missing = next((name for name in self.names if not (folder / name).is_file()), None)
        if missing is not None:
            raise UserError(f"{folder}: the photograph {missing} is not there; say with --images where they are now")
        return folder

    def require_model(self) -> Path:
        """sparse/0. Raises UserError where nothing was reconstructed."""
        if not (self.model / "images.bin").is_file():
            raise UserError(f"{self.output}: has no model in sparse/0; nothing was reconstructed")
        return self.model


def flat_names(names: list[str], of: str, into: str | None = None) -> dict[str, str]:
    """{name: the name that another program keeps}: the last part of the path, or the whole path with every "/" turned
    `into` something else. Raises UserError where two photographs would get one name."""
    flat: dict[str, str] = {}
    owner: dict[str, str] = {}
    for name in names:
        short = name.rsplit("/", 1)[-1] if into is None else name.replace("/", into)
        if short in owner:
            raise UserError(f"{of} would call both {owner[short]} and {name} {short}: rename one and reconstruct again")
        owner[short], flat[name] = name, short
    return flat
