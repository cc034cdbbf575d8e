"""COLMAP talks much: into files, not onto the screen."""

import signal
import threading
from pathlib import Path


def colmap_log_to(folder: Path) -> None:
    """Send COLMAP's log of this process to folder/colmap.<date>.<pid>."""
    import pycolmap

    folder.mkdir(parents=True, exist_ok=True)
    log = pycolmap.logging
    log.logtostderr = log.alsologtostderr = False
    log.stderrthreshold = 3
    log.set_log_destination(log.INFO, str(folder / "colmap."))
    if threading.current_thread() is threading.main_thread():
        # Its import put a handler of its own in place of Python's.
        signal.signal(signal.SIGTERM, signal.getsignal(signal.SIGTERM))
