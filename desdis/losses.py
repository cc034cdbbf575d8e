"""The losses as pure functions of descriptors or of their distances. Shapes: a batch has B matching pairs.

The paper (Liu & Dong, Descriptor Distillation, IJCV 2024): a student minimises a triplet loss, as its teacher did, plus
a regulariser that holds the similarity of the positive pair and of the negative pair near the frozen teacher's:

    L = triplet + weight * mean_i [ (m(a_i, p_i)_S - m(a_i, p_i)_T)² + (m(a_i, n_i)_S - m(a_i, n_i)_T)² ]

With m the distance and an active hinge the gradient vanishes at d+ = d+_T - 1 / (2 weight), d- = d-_T + 1 / (2 weight):
nearer than the teacher on positives and farther on negatives by a margin that the weight sets, and anchored there.
weight -> infinity is plain imitation, weight = 0 the triplet loss alone.
"""

import torch


def distance(cosine: torch.Tensor) -> torch.Tensor:
    """Euclidean distance of unit vectors from their cosine, any shape; the gradient stays finite at cosine 1."""
    return (2 - 2 * cosine).clamp_min(1e-7).sqrt()


def measured(cosine: torch.Tensor, measure: str) -> torch.Tensor:
    """A pair's similarity as the regulariser compares it: "distance" d, "squared" d² = 2 - 2 cosine, or "cosine"."""
    if measure == "distance":
        return distance(cosine)
    return 2 - 2 * cosine if measure == "squared" else cosine


def hardnet_triplet(positive: torch.Tensor, negative: torch.Tensor, margin: float = 1.0) -> torch.Tensor:
    """mean max(0, margin + d+ - d-) (Mishchuk et al. 2017). positive, negative: (B,) distances."""
    return (margin + positive - negative).clamp_min(0).mean()


def sosnet_triplet(positive: torch.Tensor, negative: torch.Tensor, margin: float = 1.0) -> torch.Tensor:
    """mean max(0, margin + d+ - d-)² (Tian et al. 2019, equation 1). positive, negative: (B,) distances."""
    return (margin + positive - negative).clamp_min(0).square().mean()


def hynet_triplet(
    positive: torch.Tensor, negative: torch.Tensor, margin: float = 1.2, alpha: float = 2.0
) -> torch.Tensor:
    """mean max(0, margin + f(d+) - f(d-)) with the hybrid similarity f(d) = d + alpha / 2 d² (Tian et al. 2020)."""

    def hybrid(d: torch.Tensor) -> torch.Tensor:
        return d + alpha / 2 * d.square()

    return (margin + hybrid(positive) - hybrid(negative)).clamp_min(0).mean()


TRIPLETS = {"hardnet": hardnet_triplet, "sosnet": sosnet_triplet, "hynet": hynet_triplet}


def contrast(positive: torch.Tensor, pairs: torch.Tensor, forbidden: torch.Tensor, temperature: float) -> torch.Tensor:
    """-log of the share that the right partner has among all candidates, exp(cosine / temperature) (van den Oord et
    al. 2018): every negative of the batch counts, the near ones most.

    positive (B,), pairs and forbidden (B, ways, B): see desdis.mining. Mean over pairs and ways.
    """
    others = torch.logsumexp((pairs / temperature).masked_fill(forbidden, -torch.inf), dim=2)
    right = positive[:, None] / temperature
    return (torch.logaddexp(others, right) - right).mean()


def second_order_similarity(anchors: torch.Tensor, positives: torch.Tensor, neighbours: int = 8) -> torch.Tensor:
    """SOSNet's regulariser: a pair's distances to its neighbours should agree on both sides (Tian et al. 2019, eq. 4).

    anchors, positives: (B, D) unit vectors. Mean over i of the root of sum_j (d(a_i, a_j) - d(p_i, p_j))², j over the
    union of a_i's and p_i's nearest `neighbours`.
    """
    from_anchors, from_positives = distance(anchors @ anchors.T), distance(positives @ positives.T)
    itself = torch.eye(len(anchors), dtype=torch.bool, device=anchors.device)
    near = torch.zeros_like(itself)
    for distances in (from_anchors, from_positives):
        count = min(neighbours, len(anchors) - 1)
        nearest = distances.detach().masked_fill(itself, torch.inf).topk(count, largest=False).indices
        near.scatter_(1, nearest, True)
    squares = ((from_anchors - from_positives).square() * near).sum(dim=1)
    return squares.clamp_min(1e-12).sqrt().mean()


def norm_agreement(anchors: torch.Tensor, positives: torch.Tensor) -> torch.Tensor:
    """HyNet's regulariser: sum_i (|x_a| - |x_p|)² of the descriptors (B, D) before they are divided by their norms."""
    return (anchors.norm(dim=1) - positives.norm(dim=1)).square().sum()


def decorrelation(descriptors: torch.Tensor) -> torch.Tensor:
    """Mean squared correlation between different entries over a batch (B, D): 0 when all D say new things."""
    centred = descriptors - descriptors.mean(dim=0)
    centred = centred / centred.norm(dim=0).clamp_min(1e-6)
    correlation = centred.T @ centred
    off_diagonal = correlation.square().sum() - correlation.diagonal().square().sum()
    return off_diagonal / (correlation.numel() - len(correlation))


def imitation(student: torch.Tensor, teacher: torch.Tensor) -> torch.Tensor:
    """mean |x_S - x_T|² of unit descriptors (B, D): stricter than holding similarities, and quicker at first.

    (B, k D) of k teachers, concatenated and divided by the root of k, count as their mean.
    """
    one = teacher.unflatten(1, (-1, student.shape[1])).sum(dim=1) / (teacher.shape[1] // student.shape[1]) ** 0.5
    return (student - one).square().sum(dim=1).mean()


def teacher_student_regulariser(
    student_positive: torch.Tensor,
    student_negative: torch.Tensor,
    teacher_positive: torch.Tensor,
    teacher_negative: torch.Tensor,
) -> torch.Tensor:
    """DesDis: mean_i (m+_S - m+_T)² + mean over the negatives (m-_S - m-_T)².

    Positives (B,), negatives (B,) (one each) or any shape (all of the batch), already measured (see `measured`).
    """
    held_positive = (student_positive - teacher_positive).square().mean()
    held_negative = (student_negative - teacher_negative).square().mean()
    return held_positive + held_negative
