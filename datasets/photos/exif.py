"""What EXIF tells about a photograph: which way is up, and how long the lens was.

In: an opened Pillow image. Out: `Exif`; its focal length in pixels follows COLMAP's rules (measured on pycolmap 4.2.1).
"""

import math
from dataclasses import dataclass
from typing import Any

DIAGONAL_35MM = 43.27  # mm, diagonal of a 36x24 frame
_MM_PER_UNIT = {2: 25.4, 3: 10.0, 4: 1.0, 5: 0.001}  # FocalPlaneResolutionUnit: inch, cm, mm, micrometre


@dataclass(frozen=True)
class Exif:
    """Orientation tag (1 to 8, 1 = as stored), camera, focal lengths in mm (None = not stated), focal plane pixels per
    mm along x, and the width that this resolution counts (pixels of the full picture as taken)."""

    orientation: int = 1
    make: str = ""
    model: str = ""
    focal_mm: float | None = None
    focal_35mm: float | None = None
    plane_pixels_per_mm: float | None = None
    plane_size: tuple[int, int] | None = None

    @property
    def roll(self) -> float:
        """Angle in degrees, clockwise on screen, of the scene's "right" on the stored grid (0, 90, 180, 270).

        Tag 6 is shown turned by 90 degrees clockwise, so what is right on screen points up on the stored grid: 270.
        """
        return {2: 180.0, 3: 180.0, 5: 90.0, 6: 270.0, 7: 270.0, 8: 90.0}.get(self.orientation, 0.0)

    @property
    def mirrored(self) -> bool:
        """The tag says that the stored grid shows the scene mirrored (2, 4, 5, 7)."""
        return self.orientation in (2, 4, 5, 7)

    def focal_px(self, width: int, height: int) -> float | None:
        """Focal length in pixels of a picture of this size, or None when EXIF does not determine it.

        From the 35 mm equivalent: f = diagonal_px * f35 / 43.27 (as COLMAP; holds for a shrunk picture as well).
        Else from the focal plane resolution, which counts pixels of the picture as taken: scaled by the long sides.
        """
        if self.focal_35mm:
            return math.hypot(width, height) * self.focal_35mm / DIAGONAL_35MM
        if self.focal_mm and self.plane_pixels_per_mm:
            scale = max(width, height) / max(self.plane_size) if self.plane_size else 1.0
            return self.focal_mm * self.plane_pixels_per_mm * scale
        return None


def read_exif(image: Any) -> Exif:
    """EXIF of an opened Pillow image; what is broken or absent is taken as not stated."""
    try:
        base = image.getexif()
        sub = base.get_ifd(0x8769)
    except Exception:  # a broken block raises anything, and never makes a photograph unreadable
        return Exif()
    orientation = base.get(0x0112)
    ppm = _positive(sub.get(0xA20E))
    unit = sub.get(0xA210, 2)
    size = (_positive(sub.get(0xA002)), _positive(sub.get(0xA003)))
    return Exif(
        orientation=orientation if orientation in range(1, 9) else 1,
        make=_text(base.get(0x010F)),
        model=_text(base.get(0x0110)),
        focal_mm=_positive(sub.get(0x920A)),
        focal_35mm=_positive(sub.get(0xA405)),
        plane_pixels_per_mm=ppm / _MM_PER_UNIT[unit] if ppm and unit in _MM_PER_UNIT else None,
        plane_size=(int(size[0]), int(size[1])) if size[0] and size[1] else None,
    )


def _positive(value: Any) -> float | None:
    """A finite positive number, or None (0 means unknown in EXIF)."""
    try:
        number = float(value)
    except (TypeError, ValueError, ZeroDivisionError):
        return None
    return number if math.isfinite(number) and number > 0 else None


def _text(value: Any) -> str:
    return value.strip("\x00 ") if isinstance(value, str) else ""
