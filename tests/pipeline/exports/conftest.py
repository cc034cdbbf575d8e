"""One reconstructed run for all layouts, and what is in it."""

import numpy as np
import pytest

from pipeline.finished import FinishedRun
from tests.pipeline.synthetic_run import NESTED, Run, reconstruct, write_run


@pytest.fixture(scope="package")
def run(tmp_path_factory) -> Run:
    return reconstruct(write_run(tmp_path_factory.mktemp("scene"), NESTED))


@pytest.fixture(scope="package")
def finished(run) -> FinishedRun:
    return FinishedRun(run.work.output)


@pytest.fixture(scope="package")
def matches(finished) -> dict:
    return dict(finished.matches())


@pytest.fixture(scope="package")
def keypoints(finished) -> dict[str, np.ndarray]:
    return {name: features.keypoints for name, features in finished.features()}
