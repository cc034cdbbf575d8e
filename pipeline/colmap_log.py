"""COLMAP talks much: into files, not onto the screen."""

from pathlib import Path


def colmap_log_to(folder: Path) -> None:
    """Send COLMAP's log of this process to folder/colmap.<date>.<pid>."""
    import pycolmap

    folder.mkdir(parents=True, exist_ok=True)
    log = pycolmap.logging
    log.logtostderr = log.alsologtostderr = False
    log.stderrthreshold = 3
    log.set_log_destination(log.INFO, str(folder / "colmap."))
