"""Which negatives a batch of B matching pairs (a_i, p_i) offers, and which of them are taken.

A negative of pair i is another pair j in one of two or four ways: (a_i, p_j) and (p_i, a_j); with `four_ways` also
(a_i, a_j) and (p_i, p_j). All cosines are kept in one array (B, ways, B), for student and teacher alike, so a choice
made on the one can be looked up in the other.
"""

import torch

FALSE_NEGATIVE_DISTANCE = 0.008  # HardNet: nearer than this two "different" patches are the same one


def cosines(
    anchors: torch.Tensor, positives: torch.Tensor, four_ways: bool = False
) -> tuple[torch.Tensor, torch.Tensor]:
    """(B,) cosines of the matching pairs and (B, ways, B) of every pair i with every j, for unit vectors (B, D)."""
    across = anchors @ positives.T
    ways = [across, across.T]
    if four_ways:
        ways += [anchors @ anchors.T, positives @ positives.T]
    return across.diagonal(), torch.stack(ways, dim=1)


def forbidden_pairs(
    cosine: torch.Tensor, same: torch.Tensor | None = None, false_distance: float = FALSE_NEGATIVE_DISTANCE
) -> torch.Tensor:
    """(B, ways, B) bool: what must not serve as a negative: the pair itself, what is nearer than `false_distance`, and
    what `same` (B, B) says shows the same surface (repeated structure, neighbouring points)."""
    batch, _, _ = cosine.shape
    itself = torch.eye(batch, dtype=torch.bool, device=cosine.device)
    if same is not None:
        itself = itself | same
    return itself[:, None] | (2 - 2 * cosine < false_distance**2)


def hardest(cosine: torch.Tensor, forbidden: torch.Tensor) -> torch.Tensor:
    """(B,) index into the flattened (ways, B): the most similar negative of each pair, which must have one. A tie goes
    to the first."""
    return cosine.detach().masked_fill(forbidden, -2.0).flatten(1).argmax(dim=1)


def pick(cosine: torch.Tensor, chosen: torch.Tensor) -> torch.Tensor:
    """(B,) the cosines of the chosen negatives."""
    return cosine.flatten(1).gather(1, chosen[:, None])[:, 0]


def same_surface(points: torch.Tensor, reach: torch.Tensor, scenes: torch.Tensor) -> torch.Tensor:
    """(B, B) bool: two points of one scene that lie within each other's patch, so that "different" would be false.

    points (B, 3) and reach (B,) in the scene's unit, scenes (B,) ids.
    """
    # Not by the matrix product, whose rounding makes far points near where coordinates are large.
    distances = torch.cdist(points, points, compute_mode="donot_use_mm_for_euclid_dist")
    near = distances < torch.maximum(reach[:, None], reach[None])
    return near & (scenes[:, None] == scenes[None])
