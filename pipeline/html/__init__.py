"""The report one wants to look at: one HTML file that opens from disk without a network, and single pictures.

contents.py reads what a run left on disk; figures.py and scene.py say what plotly is to draw; pictures.py and
render.py draw photographs and the model with OpenCV; page.py puts them into the templates.
"""

from pathlib import Path
from typing import Any

__all__ = ["write_html"]


def write_html(output: Path, report: dict[str, Any]) -> Path:
    """Write `report.html` into the run folder `output` from `report` (report.json's content) and the files beside it.

    What is not there (no model, no reference, moved photographs) is left out, and the page says so.
    """
    from pipeline.html.page import reconstruction_page
    from pipeline.workspace import write_atomically

    path = output / "report.html"
    write_atomically(path, reconstruction_page(output, report))
    return path
