"""Focal lengths by COLMAP's rules, and the way up."""

import io

import numpy as np
import pytest
from PIL import Image
from PIL.TiffImagePlugin import IFDRational

from datasets.photos.exif import Exif, read_exif

TAGS = {"make": 0x010F, "model": 0x0110, "orientation": 0x0112}
SUB_TAGS = {"focal": 0x920A, "f35": 0xA405, "width": 0xA002, "height": 0xA003, "ppu": 0xA20E, "unit": 0xA210}


def with_exif(size=(160, 120), **tags) -> Image.Image:
    """A JPEG with these tags, opened."""
    exif = Image.Exif()
    for name, value in tags.items():
        if name in TAGS:
            exif[TAGS[name]] = value
        else:
            exif.get_ifd(0x8769)[SUB_TAGS[name]] = value
    buffer = io.BytesIO()
    Image.new("RGB", size).save(buffer, "JPEG", exif=exif)
    return Image.open(buffer)


def test_35_mm_equivalent_goes_by_the_diagonal():
    exif = read_exif(with_exif(focal=IFDRational(46, 10), f35=28))
    assert exif.focal_mm == pytest.approx(4.6)
    assert exif.focal_px(1600, 1200) == pytest.approx(1294.2, abs=0.1)  # measured on pycolmap 4.2.1
    assert exif.focal_px(1200, 1600) == exif.focal_px(1600, 1200)


@pytest.mark.parametrize(("unit", "per_mm"), [(2, 25.4), (3, 10.0), (4, 1.0), (5, 0.001)])
def test_focal_plane_resolution(unit, per_mm):
    exif = read_exif(with_exif(focal=IFDRational(50), ppu=IFDRational(3000), unit=unit, width=4000, height=3000))
    assert exif.focal_px(4000, 3000) == pytest.approx(50 * 3000 / per_mm)
    assert exif.focal_px(1000, 750) == pytest.approx(50 * 3000 / per_mm / 4)  # a shrunk picture


def test_nothing_is_known_from_zero_or_absent_tags():
    assert read_exif(with_exif()).focal_px(160, 120) is None
    assert read_exif(with_exif(focal=IFDRational(0), f35=0)).focal_px(160, 120) is None
    assert read_exif(with_exif(focal=IFDRational(50, 0))).focal_mm is None
    assert read_exif(with_exif(orientation=99)).orientation == 1


def test_a_broken_block_is_taken_as_none():
    buffer = io.BytesIO()
    Image.new("RGB", (32, 32)).save(buffer, "JPEG", exif=b"Exif\x00\x00II*\x00\xff\xff\xff\xff")
    assert read_exif(Image.open(buffer)) == Exif()


@pytest.mark.parametrize("orientation", range(1, 9))
def test_roll_is_where_the_right_of_the_scene_lies_on_the_stored_grid(orientation):
    """Pillow's own transposition says where stored pixels go when the picture is shown upright."""
    from PIL import ImageOps

    stored = np.zeros((30, 40, 3), np.uint8)
    stored[:, :, 0] = np.arange(40) * 5  # red grows with stored x
    stored[:, :, 1] = np.arange(30)[:, None] * 5  # green grows with stored y
    image = with_exif(orientation=orientation)
    exif = Image.Exif()
    exif[0x0112] = orientation
    buffer = io.BytesIO()
    Image.fromarray(stored).save(buffer, "PNG", exif=exif)
    upright = np.asarray(ImageOps.exif_transpose(Image.open(buffer))).astype(int)
    # Stored directions of one step to the right and one step down in the picture as it is shown.
    right, down = ((upright[10 + dy, 10 + dx] - upright[10, 10])[:2] / 5 for dx, dy in ((1, 0), (0, 1)))
    read = read_exif(image)
    assert read.roll == np.rad2deg(np.arctan2(right[1], right[0])) % 360
    assert read.mirrored == (right[0] * down[1] - right[1] * down[0] < 0)
