"""A video as photographs: the sharpest frame of each interval.

In: a video file. Out: JPEG files `frame_000123.jpg` in a folder, numbered by frame in the video.
"""

import hashlib
import os
import shutil
from pathlib import Path

from desdis.errors import UserError

SUFFIXES = {".mp4", ".mov", ".avi", ".mkv", ".webm", ".m4v", ".mpg", ".mpeg", ".mts", ".m2ts", ".3gp", ".wmv", ".ogv"}
_JPEG_QUALITY = 97
_SHARPNESS_SIDE = 640  # long side at which frames are compared: noise and compression count less there


def is_video(path: Path) -> bool:
    """By its name: opening anything else as a video tells no more and takes longer."""
    return path.suffix.lower() in SUFFIXES


def sample_frames(video: Path, folder: Path, rate: float) -> int:
    """Write the sharpest frame of each 1/rate seconds into `folder`; returns how many.

    Sharpness is the variance of the Laplacian. A folder left by an earlier call with the same video and rate is kept
    (marker `.done`); anything else in it is replaced, all at once. Raises UserError where nothing can be decoded.
    """
    import cv2

    state = video.stat()
    key = hashlib.sha256(repr((video.resolve(), state.st_size, state.st_mtime_ns, rate)).encode()).hexdigest()
    marker = folder.parent / f"{folder.name}.done"
    if marker.exists() and marker.read_text() == key:
        return sum(1 for _ in folder.glob("frame_*.jpg"))

    capture = cv2.VideoCapture(str(video))
    per_second = capture.get(cv2.CAP_PROP_FPS)
    if not capture.isOpened() or not per_second > 0:
        raise UserError(f"{video}: the video cannot be decoded; convert it to MP4 (H.264), or to a folder of frames")
    marker.unlink(missing_ok=True)
    scratch = folder.with_name(folder.name + ".part")
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir(parents=True)
    interval, best, index = 0, None, 0
    try:
        while True:
            ok, frame = capture.read()
            current = int(index * rate / per_second)
            if best is not None and (not ok or current != interval):
                _write(scratch / f"frame_{best[1]:06d}.jpg", best[2])
                best = None
            if not ok:
                break
            interval = current
            sharpness = _sharpness(frame)
            if best is None or sharpness > best[0]:
                best = sharpness, index, frame
            index += 1
    finally:
        capture.release()
    if not index:
        raise UserError(f"{video}: no frame can be decoded")
    shutil.rmtree(folder, ignore_errors=True)
    os.replace(scratch, folder)
    marker.write_text(key)
    return sum(1 for _ in folder.glob("frame_*.jpg"))


def _sharpness(frame) -> float:
    import cv2

    scale = min(1.0, _SHARPNESS_SIDE / max(frame.shape[:2]))
    grey = cv2.cvtColor(frame, cv2.COLOR_BGR2GRAY)
    small = cv2.resize(grey, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    return float(cv2.Laplacian(small, cv2.CV_64F).var())


def _write(path: Path, frame) -> None:
    import cv2

    ok, data = cv2.imencode(".jpg", frame, [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])
    if not ok:
        raise UserError(f"{path}: the frame cannot be encoded")
    path.write_bytes(data.tobytes())
