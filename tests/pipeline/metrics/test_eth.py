"""The local-feature-evaluation table."""

import pytest

from pipeline.metrics import eth


def test_the_published_row_of_fountain():
    r = eth.row("Fountain", "SIFT", 11, 11, 14722, 70631, 0.4, 55, 100000)
    assert r["Track Length"] == pytest.approx(4.79765, abs=1e-5)
    assert r["Obs. Per Image"] == pytest.approx(6421.00, abs=1e-2)
    assert r["# Inlier Pairs"] == 11 * 10 // 2
    assert tuple(r) == eth.COLUMNS and len(eth.COLUMNS) == 16


def test_nothing_reconstructed_is_a_row_of_zeros():
    lines = eth.table([eth.row("Fountain", "SIFT", 11, 0, 0, 0, None, 0, 0)])
    assert len(lines) == 3 and lines[2].startswith("| Fountain | SIFT | 11 | 0 | 0 | 0 | 0.0000 | 0.0000 | - |")
