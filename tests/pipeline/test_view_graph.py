import numpy as np

from pipeline.types import TwoView
from pipeline.view_graph import bridges, components, left_alone, view_graph


def two_view(a: str, b: str, inliers: int, matches: int = 100) -> TwoView:
    return TwoView((a, b), "CALIBRATED", np.zeros((inliers, 2), np.int32), matches, 0.5)


GRAPH = view_graph(
    "abcdefg",
    [two_view("a", "b", 30), two_view("b", "c", 30), two_view("a", "c", 30), two_view("c", "d", 20),
     two_view("e", "f", 20), two_view("f", "g", 0, matches=50), two_view("a", "g", 0, matches=8)],
)  # fmt: skip


def test_components_and_bridges():
    assert components(GRAPH) == [["a", "b", "c", "d"], ["e", "f"]]
    assert bridges(GRAPH) == [("c", "d"), ("e", "f")]


def test_left_alone_says_why():
    reasons = {item["name"]: item["reason"] for item in left_alone(GRAPH, ["a", "b", "c"], min_inliers=15)}
    assert set(reasons) == {"d", "e", "f", "g"}
    assert "not reached" in reasons["d"]
    assert reasons["g"].startswith("too few inliers") and "50" in reasons["g"]
    alone = left_alone(view_graph("ab", [two_view("a", "b", 0, matches=3)]), [], min_inliers=15)
    assert all(item["reason"].startswith("too few matches (at most 3") for item in alone)
