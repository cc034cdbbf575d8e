"""Which negatives are seen, which are forbidden, which is taken."""

import torch

from desdis.mining import cosines, forbidden_pairs, hardest, pick, same_surface

# Descriptors in the plane, in degrees. Pair 0: 0 / 10, pair 1: 90 / 100, pair 2: 180 / 60.
ANGLES = torch.deg2rad(torch.tensor([[0.0, 90, 180], [10, 100, 60]]))
ANCHORS, POSITIVES = torch.stack([ANGLES.cos(), ANGLES.sin()], dim=2)


def degrees(cosine: torch.Tensor) -> list[int]:
    return torch.rad2deg(cosine.clamp(-1, 1).acos()).round().int().tolist()


def test_two_and_four_ways():
    positive, pairs = cosines(ANCHORS, POSITIVES)
    assert degrees(positive) == [10, 10, 120]
    assert pairs.shape == (3, 2, 3)
    chosen = hardest(pairs, forbidden_pairs(pairs))
    # 0: a0-p2 60, p0-a1 80 -> 60; 1: a1-p2 30; 2: p2-a1 30
    assert degrees(pick(pairs, chosen)) == [60, 30, 30]
    _, pairs = cosines(ANCHORS, POSITIVES, four_ways=True)
    # 0: p0-p2 50 is nearer
    assert degrees(pick(pairs, hardest(pairs, forbidden_pairs(pairs)))) == [50, 30, 30]


def test_a_choice_is_looked_up_in_the_teacher():
    _, pairs = cosines(ANCHORS, POSITIVES)
    chosen = hardest(pairs, forbidden_pairs(pairs))
    _, teacher = cosines(POSITIVES, ANCHORS)  # a teacher that swaps the sides: (a0, p2) becomes (p0, a2)
    assert degrees(pick(teacher, chosen))[0] == 170


def test_false_negatives_are_masked():
    anchors = ANCHORS.clone()
    anchors[2] = torch.nn.functional.normalize(POSITIVES[1] + 1e-4, dim=0)  # the same patch under another number
    _, pairs = cosines(anchors, POSITIVES)
    forbidden = forbidden_pairs(pairs)
    assert forbidden[2, 0, 1] and forbidden[1, 1, 2] and not forbidden[2, 1, 1]
    assert degrees(pick(pairs, hardest(pairs, forbidden)))[2] == 30  # p2-a1, not a2-p1 at 0
    same = torch.zeros(3, 3, dtype=torch.bool)
    same[0, 2] = same[2, 0] = True
    _, pairs = cosines(ANCHORS, POSITIVES)
    assert degrees(pick(pairs, hardest(pairs, forbidden_pairs(pairs, same)))) == [80, 30, 30]


def test_same_surface_needs_the_same_scene():
    points = torch.tensor([[0.0, 0, 0], [1, 0, 0], [1, 0, 0], [5, 0, 0]])
    reach, scenes = torch.tensor([0.5, 1.5, 1.5, 0.1]), torch.tensor([0, 0, 1, 0])
    same = same_surface(points, reach, scenes)
    assert same[0, 1] and same[1, 0] and not same[0, 2] and not same[1, 2] and not same[1, 3]
    far = torch.stack([1.6e6 + 10 * torch.arange(100.0), torch.zeros(100), torch.zeros(100)], dim=1)  # PhotoTour's
    assert same_surface(far, torch.ones(100), torch.zeros(100)).sum() == 100
