"""Fixtures that several tests share."""

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def rendered_scene(tmp_path_factory) -> Path:
    """A small scene with exact poses: images/, cameras/ (Strecha), sparse/ (COLMAP)."""
    from datasets.scenes.rendered import render_scene

    folder = tmp_path_factory.mktemp("rendered")
    render_scene(folder, n_images=6, size=(480, 360))
    return folder
