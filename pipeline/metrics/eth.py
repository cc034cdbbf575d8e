"""The table of the local-feature-evaluation benchmark (Schoenberger et al., CVPR 2017): its columns and a row of it."""

from typing import Any

COLUMNS = (
    "Dataset", "Method", "# Images", "# Reg. Images", "# Sparse Points", "# Observations", "Track Length",
    "Obs. Per Image", "Reproj. Error [px]", "# Dense Points", "Dense Error [2cm]", "Dense Error [10cm]",
    "Mean Pose Error [m]", "Median Pose Error [m]", "# Inlier Pairs", "# Inlier Matches",
)  # fmt: skip


def row(
    dataset: str,
    method: str,
    images: int,
    registered: int,
    points: int,
    observations: int,
    reprojection_error_px: float | None,
    inlier_pairs: int,
    inlier_matches: int,
    mean_pose_error: float | None = None,
    median_pose_error: float | None = None,
) -> dict[str, Any]:
    """A row by column. Dense columns stay None: no dense reconstruction is made here."""
    values = (
        dataset, method, images, registered, points, observations,
        observations / points if points else 0.0, observations / registered if registered else 0.0,
        reprojection_error_px, None, None, None, mean_pose_error, median_pose_error, inlier_pairs, inlier_matches,
    )  # fmt: skip
    return dict(zip(COLUMNS, values, strict=True))


def table(rows: list[dict[str, Any]]) -> list[str]:
    """The rows as lines of a markdown table."""
    lines = ["| " + " | ".join(COLUMNS) + " |", "|---|---|" + "--:|" * (len(COLUMNS) - 2)]
    return lines + ["| " + " | ".join(_shown(r[column]) for column in COLUMNS) + " |" for r in rows]


def _shown(value: Any) -> str:
    if value is None:
        return "-"
    return f"{value:.4f}" if isinstance(value, float) else str(value)
