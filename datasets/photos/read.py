"""Photographs as arrays: one way in for the whole program, so that nobody disagrees about pixels.

In: bytes of a JPEG, PNG, TIFF, WebP, BMP or PNM file. Out: rgb (H, W, 3) and grey (H, W), uint8, on the **stored**
pixel grid: the EXIF orientation is not applied, as in COLMAP and hloc. What was decided for each kind of file:

- grey is always OpenCV's 0.299 R + 0.587 G + 0.114 B of the 8-bit rgb (a JPEG's own luma differs by a level or two);
- 16 bit becomes 8 by dropping low bits; when no value reaches the upper bits, the file holds 10, 12 or 14 bits in 16
  (machine vision, thermal cameras) and the bits that are in use count;
- transparency is dropped, the colours beneath it are kept; CMYK goes to RGB without colour profile; palettes and
  bilevel pictures are expanded; of several pages or frames the first one counts;
- floating-point and 32-bit integer pixels have no defined range and are refused.
"""

import io
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from datasets.photos.exif import Exif, read_exif

MAX_PIXELS = 1 << 30  # OpenCV's own limit; the survey's is lower and an option
FORMATS = ("JPEG", "PNG", "TIFF", "WEBP", "BMP", "PPM")


class Unreadable(Exception):
    """A file that gives no photograph. `str(error)` is the reason, in words for the user."""


@dataclass(frozen=True)
class Decoded:
    """rgb (H, W, 3) uint8 on the stored grid, what EXIF says, and what the file was (format, mode such as "RGB")."""

    rgb: np.ndarray
    exif: Exif
    format: str
    mode: str
    frames: int


def read_image(path: Path, max_pixels: int = MAX_PIXELS) -> tuple[np.ndarray, np.ndarray]:
    """rgb (H, W, 3) and grey (H, W), uint8, on the stored pixel grid. Raises Unreadable(reason)."""
    rgb = decode(read_bytes(path), max_pixels).rgb
    return rgb, to_grey(rgb)


def to_grey(rgb: np.ndarray) -> np.ndarray:
    """The one grey of this program: (H, W, 3) uint8 to (H, W) uint8, 0.299 R + 0.587 G + 0.114 B."""
    import cv2

    return cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY)


def read_mask(path: Path, width: int, height: int) -> np.ndarray:
    """(H, W) bool, True = use the pixel: COLMAP's masks are 0 where nothing may be detected.

    Raises Unreadable when the file is no image or has another size than the photograph.
    """
    grey = read_image(path)[1]
    if grey.shape != (height, width):
        raise Unreadable(f"the mask is {grey.shape[1]}x{grey.shape[0]}, its photograph {width}x{height}")
    return grey > 0


def read_bytes(path: Path) -> bytes:
    """The file's content; Unreadable where there is none."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise Unreadable(f"cannot be opened: {error.strerror or error}") from None
    if not data:
        raise Unreadable("zero bytes: the file is empty")
    return data


def decode(data: bytes, max_pixels: int = MAX_PIXELS) -> Decoded:
    """Decode a whole file, strictly: a file that ends early is refused, not filled up with grey."""
    image = _open(data)
    try:
        width, height = image.size
        if width * height > max_pixels:
            raise Unreadable(f"decompression bomb: {width}x{height} pixels, the limit is {max_pixels:,} (max_pixels)")
        exif = read_exif(image)
        try:
            frames = getattr(image, "n_frames", 1)
            if image.format == "PNG":
                _check_png(data)
            rgb = _pixels(image, data, exif.orientation)
        except Unreadable:
            raise
        except Exception as error:  # decoders raise anything on damaged files
            raise Unreadable(_damage(error)) from None
        return Decoded(np.ascontiguousarray(rgb), exif, image.format or "", image.mode, frames)
    finally:
        image.close()


def _open(data: bytes) -> Any:
    """The file's header, through Pillow."""
    import warnings

    from PIL import Image, UnidentifiedImageError

    Image.MAX_IMAGE_PIXELS = None  # the limit is `max_pixels`, one place for it
    # Pillow warns of broken EXIF and the like; what matters is decided here, and the screen belongs to the survey.
    warnings.filterwarnings("ignore", module=r"PIL\.")
    try:
        return Image.open(io.BytesIO(data), formats=FORMATS)
    except UnidentifiedImageError:
        raise Unreadable(_what_else(data)) from None
    except Exception as error:  # decoders raise anything on damaged files
        raise Unreadable(_damage(error)) from None


def _pixels(image: Any, data: bytes, orientation: int) -> np.ndarray:
    """(H, W, 3) uint8."""
    import cv2

    if image.format in ("JPEG", "MPO") and image.mode in ("RGB", "L"):
        # OpenCV's decoder gives the same pixels as Pillow's and is 1.6 times as fast, but its older versions fill a
        # file that ends early with grey: no end-of-image marker, no fast way.
        if b"\xff\xd9" in data[-65536:]:
            rgb = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION)
            if rgb is not None and rgb.shape[1::-1] == image.size:
                return rgb
        image.load()
        return np.asarray(image.convert("RGB"))
    if image.mode in ("RGB", "RGBA") and _is_16_bit(image, data):
        stored = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED | cv2.IMREAD_IGNORE_ORIENTATION)
        if stored is not None and stored.dtype == np.uint16 and stored.ndim == 3:
            rgb = _to_8_bit(stored[:, :, 2::-1])
            return _turned_back(rgb, orientation) if image.format == "TIFF" else rgb
    image.load()
    mode = image.mode
    if mode == "F":
        raise Unreadable("unsupported: floating-point pixels have no defined range; save as 8 or 16 bit")
    if mode == "I" and image.format not in ("PNG", "PPM"):  # these two mean 16 bit by it
        raise Unreadable("unsupported: 32-bit integer pixels have no defined range; save as 8 or 16 bit")
    if mode.startswith("I"):
        rgb = np.repeat(_to_8_bit(np.asarray(image).astype(np.uint16))[:, :, None], 3, axis=2)
    else:
        rgb = np.asarray(image.convert("RGB"))
    return _turned_back(rgb, orientation) if image.format == "TIFF" else rgb


def _turned_back(shown: np.ndarray, orientation: int) -> np.ndarray:
    """The stored grid of pixels that were turned upright by an EXIF orientation.

    Pillow and OpenCV both turn TIFF files when they load them, and only these, whatever they are told.
    """
    match orientation:
        case 2:
            return shown[:, ::-1]
        case 3:
            return shown[::-1, ::-1]
        case 4:
            return shown[::-1]
        case 5:
            return shown.swapaxes(0, 1)
        case 6:
            return np.rot90(shown, 1)
        case 7:
            return shown[::-1, ::-1].swapaxes(0, 1)
        case 8:
            return np.rot90(shown, -1)
    return shown


def _check_png(data: bytes) -> None:
    """Check the sums of the critical chunks: Pillow leaves out those of the pixels, and a flipped bit would pass."""
    at = 8
    while at + 12 <= len(data):
        length = int.from_bytes(data[at : at + 4], "big")
        kind, end = data[at + 4 : at + 8], at + 8 + length
        if end + 4 > len(data):
            break
        if kind[:1].isupper() and zlib.crc32(memoryview(data)[at + 4 : end]) != int.from_bytes(
            data[end : end + 4], "big"
        ):
            raise Unreadable(f"damaged: the check sum of its {kind.decode('ascii', 'replace')} chunk is wrong")
        if kind == b"IEND":
            return
        at = end + 4
    raise Unreadable("truncated: the file ends before its image does")


def _to_8_bit(stored: np.ndarray) -> np.ndarray:
    """uint16 to uint8: 16, 14, 12 or 10 significant bits, the fewest that hold the largest value."""
    largest = int(stored.max(initial=0))
    bits = next(bits for bits in (10, 12, 14, 16) if largest < 1 << bits)
    return (stored >> (bits - 8)).astype(np.uint8)


def _is_16_bit(image: Any, data: bytes) -> bool:
    """Whether a colour file holds 16 bits a channel, which Pillow hides."""
    if image.format == "PNG":
        return data[24] == 16  # bit depth, ninth byte of IHDR
    if image.format == "TIFF":
        return 16 in tuple(image.tag_v2.get(258, ()))  # BitsPerSample
    return False


_OTHERS = (
    (b"GIF8", "GIF"), (b"\x00\x00\x00\x0cjP  ", "JPEG 2000"), (b"\xff\x4f\xff\x51", "JPEG 2000"), (b"8BPS", "PSD"),
    (b"\xff\x0a", "JPEG XL"), (b"\x00\x00\x00\x0cJXL ", "JPEG XL"), (b"v/1\x01", "OpenEXR"), (b"#?RADIANCE", "HDR"),
    (b"II*\x00\x10\x00\x00\x00CR", "Canon raw"), (b"%PDF", "PDF"),
)  # fmt: skip
_BEGINNINGS = (b"\xff\xd8\xff", b"\x89PNG", b"II*\x00", b"MM\x00*", b"RIFF", b"BM")


def _what_else(data: bytes) -> str:
    for magic, name in _OTHERS:
        if data.startswith(magic):
            return f"unsupported format: {name}; convert to JPEG or PNG"
    if data[4:8] == b"ftyp" and data[8:11] in (b"hei", b"hev", b"mif", b"msf", b"avi"):
        return "unsupported format: HEIC/AVIF; convert to JPEG or PNG"
    if data.startswith(_BEGINNINGS):
        return "truncated or damaged: the header cannot be read"
    return "not an image"


def _damage(error: BaseException) -> str:
    text = str(error) or type(error).__name__
    if isinstance(error, MemoryError):
        return "unreadable: not enough memory to decode it"
    lowered = text.lower()
    if "truncat" in lowered or "not processed" in lowered or isinstance(error, (EOFError, struct.error)):
        return "truncated: the file ends before its image does"
    return f"damaged: {text}"
