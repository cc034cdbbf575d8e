"""What the README and docs say can be followed: their links lead somewhere, their five lines run."""

import re
from pathlib import Path

import cv2
import numpy as np
import pytest

from desdis.checkpoints import available

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    text = page.read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)#\s]+)", text):
        if "://" not in target:
            assert (page.parent / target).exists(), target


def test_every_page_is_in_the_index():
    index = (ROOT / "docs" / "README.md").read_text(encoding="utf-8")
    for page in sorted((ROOT / "docs").glob("*.md")):
        assert page.name == "README.md" or f"({page.name})" in index, page.name


@pytest.mark.skipif("desdis-32" not in available(), reason="no desdis-32 in desdis/weights")
def test_the_five_lines_of_the_library(tmp_path, monkeypatch):
    (lines,) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    noise = np.random.default_rng(0).integers(0, 256, (60, 80), dtype=np.uint8)
    cv2.imwrite(str(tmp_path / "photo.jpg"), cv2.resize(noise, (320, 240), interpolation=cv2.INTER_CUBIC))
    monkeypatch.chdir(tmp_path)
    found: dict = {}
    exec(lines, found)
    descriptors = found["descriptors"]
    assert len(descriptors) == len(found["points"]) > 20
    assert descriptors.shape[1] == 128
    np.testing.assert_allclose(np.linalg.norm(descriptors, axis=1), 1, atol=1e-4)
