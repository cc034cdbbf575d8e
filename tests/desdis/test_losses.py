"""The losses against numbers worked by hand, their gradients, and the regulariser's stationary point."""

import math

import pytest
import torch

from desdis import losses
from desdis.mining import cosines, forbidden_pairs, hardest, pick

POSITIVE, NEGATIVE = torch.tensor([0.5, 0.2]), torch.tensor([1.0, 1.5])


def unit(*angles: float) -> torch.Tensor:
    """Unit vectors of the plane at these angles in degrees."""
    radians = torch.deg2rad(torch.tensor(angles, dtype=torch.float64))
    return torch.stack([radians.cos(), radians.sin()], dim=1)


def test_triplets_by_hand():
    # 1 + 0.5 - 1.0 = 0.5; 1 + 0.2 - 1.5 < 0: hinge closed
    assert losses.hardnet_triplet(POSITIVE, NEGATIVE).item() == pytest.approx(0.25)
    assert losses.sosnet_triplet(POSITIVE, NEGATIVE).item() == pytest.approx(0.125)
    # f(d) = d + d²: 1.2 + 0.75 - 2.0 < 0; margin 3: 3 + 0.75 - 2.0 = 1.75, 3 + 0.24 - 3.75 < 0
    assert losses.hynet_triplet(POSITIVE, NEGATIVE).item() == 0
    assert losses.hynet_triplet(POSITIVE, NEGATIVE, margin=3.0).item() == pytest.approx(0.875)


def test_distance_and_measures_by_hand():
    cosine = torch.tensor([1.0, 0.5, 0.0, -1.0])
    torch.testing.assert_close(losses.distance(cosine), torch.tensor([0, 1, math.sqrt(2), 2]), atol=4e-4, rtol=0)
    torch.testing.assert_close(losses.measured(cosine, "squared"), torch.tensor([0.0, 1, 2, 4]))
    assert losses.measured(cosine, "cosine") is cosine


def test_second_order_by_hand():
    # anchors at 0, 60, 180 degrees, positives at 0, 90, 180: chords 2 sin(angle / 2)
    anchors, positives = unit(0, 60, 180), unit(0, 90, 180)
    chord = {angle: 2 * math.sin(math.radians(angle / 2)) for angle in (60, 90, 120)}
    first, last = chord[60] - chord[90], chord[120] - chord[90]
    expected = (abs(first) + math.hypot(first, last) + abs(last)) / 3
    assert losses.second_order_similarity(anchors, positives).item() == pytest.approx(expected, abs=1e-3)
    # one neighbour: anchor 0's is 1 (both sides); 1's is 0 (anchors) and 0 (positives, a tie: the first); 2's is 1
    expected = (abs(first) + abs(first) + abs(last)) / 3
    assert losses.second_order_similarity(anchors, positives, 1).item() == pytest.approx(expected, abs=1e-3)


def test_norm_agreement_and_decorrelation_by_hand():
    anchors, positives = torch.tensor([[3.0, 4.0], [0.0, 1.0]]), torch.tensor([[0.0, 3.0], [1.0, 0.0]])
    assert losses.norm_agreement(anchors, positives).item() == pytest.approx(4.0)
    alike = torch.tensor([[1.0, 2.0], [2.0, 4.0], [3.0, 6.0]])
    assert losses.decorrelation(alike).item() == pytest.approx(1.0)
    apart = torch.tensor([[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]])
    assert losses.decorrelation(apart).item() == pytest.approx(0.0, abs=1e-6)


def test_regulariser_by_hand():
    student, teacher = (torch.tensor([0.5, 0.7]), torch.tensor([1.0, 1.2])), (torch.tensor([0.4, 0.4]), torch.ones(2))
    value = losses.teacher_student_regulariser(student[0], student[1], teacher[0], teacher[1])
    assert value.item() == pytest.approx((0.01 + 0.09) / 2 + (0.0 + 0.04) / 2)


def test_imitation_by_hand():
    student = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    # (0.4, -0.8) has length² 0.8; the second answers as its teacher
    assert losses.imitation(student, torch.tensor([[0.6, 0.8], [0.0, 1.0]])).item() == pytest.approx(0.4)
    # two teachers, (1, 0) and (0, 1), count as their mean (0.5, 0.5): 0.25 + 0.25
    two = torch.tensor([[1.0, 0.0, 0.0, 1.0]]) / math.sqrt(2)
    assert losses.imitation(student[:1], two).item() == pytest.approx(0.5)


def test_contrast_by_hand():
    # Two pairs, one way. Of pair 0 the other candidate is 0.5 less alike, of pair 1 0.1; temperature 0.5.
    positive, pairs = torch.tensor([0.8, 0.2]), torch.tensor([[[0.8, 0.3]], [[0.1, 0.2]]])
    itself = torch.eye(2, dtype=torch.bool)[:, None]
    expected = (math.log(1 + math.exp(-1)) + math.log(1 + math.exp(-0.2))) / 2
    assert losses.contrast(positive, pairs, itself, 0.5).item() == pytest.approx(expected, abs=1e-6)
    # the same negatives in a second way change nothing; with none left there is nothing to lose
    twice = losses.contrast(positive, pairs.expand(2, 2, 2), itself.expand(2, 2, 2), 0.5)
    assert twice.item() == pytest.approx(expected, abs=1e-6)
    assert losses.contrast(positive, pairs, torch.ones_like(itself), 0.5).item() == 0


@pytest.mark.parametrize("form", losses.TRIPLETS)
@pytest.mark.parametrize("measure", ["distance", "squared", "cosine"])
def test_gradients(form, measure):
    generator = torch.Generator().manual_seed(3)
    raw = torch.randn(2, 5, 6, generator=generator, dtype=torch.float64, requires_grad=True)
    taught = torch.nn.functional.normalize(torch.randn(2, 5, 6, generator=generator, dtype=torch.float64), dim=2)

    def loss(x):
        a, p = torch.nn.functional.normalize(x, dim=2)
        positive, pairs = cosines(a, p, four_ways=True)
        chosen = hardest(pairs, forbidden_pairs(pairs.detach()))
        negative = pick(pairs, chosen)
        teacher_positive, teacher_pairs = cosines(taught[0], taught[1], four_ways=True)
        held = losses.teacher_student_regulariser(
            losses.measured(positive, measure), losses.measured(negative, measure),
            losses.measured(teacher_positive, measure), losses.measured(pick(teacher_pairs, chosen), measure),
        )  # fmt: skip
        triplet = losses.TRIPLETS[form](losses.distance(positive), losses.distance(negative))
        extra = losses.second_order_similarity(a, p, 2) + losses.norm_agreement(*x) + losses.decorrelation(a)
        extra = extra + losses.imitation(a, taught[0])
        extra = extra + losses.contrast(positive, pairs, forbidden_pairs(pairs.detach()), 0.2)
        return triplet + 3 * held + extra

    assert torch.autograd.gradcheck(loss, (raw,), eps=1e-6, atol=1e-5)


def test_gradients_stay_finite_where_descriptors_coincide():
    a = unit(10, 50, 200).requires_grad_()
    positive, pairs = cosines(a, a.detach().clone())
    losses.hardnet_triplet(losses.distance(positive), losses.distance(pairs[:, 0].min(dim=1).values)).backward()
    assert a.grad.isfinite().all()


@pytest.mark.parametrize("weight", [1.0, 2.0, 5.0])
def test_stationary_point(weight):
    """Free descriptors settle at d+ = d+_T - 1 / (2 lambda), d- = d-_T + 1 / (2 lambda) while the hinge is active."""
    teacher_positive, teacher_negative = (
        torch.tensor([0.9], dtype=torch.float64),
        torch.tensor([0.8], dtype=torch.float64),
    )
    raw = torch.randn(3, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64, requires_grad=True)
    optimiser = torch.optim.SGD([raw], lr=0.05)
    for _ in range(3000):
        a, p, n = torch.nn.functional.normalize(raw, dim=1)
        positive, negative = losses.distance(a @ p)[None], losses.distance(a @ n)[None]
        triplet = losses.hardnet_triplet(positive, negative, margin=3.0)
        held = losses.teacher_student_regulariser(positive, negative, teacher_positive, teacher_negative)
        optimiser.zero_grad()
        (triplet + weight * held).backward()
        optimiser.step()
    assert positive.item() == pytest.approx(0.9 - 1 / (2 * weight), abs=1e-3)
    assert negative.item() == pytest.approx(0.8 + 1 / (2 * weight), abs=1e-3)
