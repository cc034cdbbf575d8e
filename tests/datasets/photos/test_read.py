"""Every format and depth gives the same picture; what gives none says why."""

import io
import struct
import zlib

import cv2
import numpy as np
import pytest
from PIL import Image

from datasets.photos.read import Unreadable, decode, read_image, read_mask, to_grey


@pytest.fixture(scope="module")
def picture() -> np.ndarray:
    """(96, 128, 3) uint8, smooth enough for JPEG."""
    noise = np.random.default_rng(5).uniform(0, 255, (6, 8, 3)).astype(np.float32)
    return np.clip(cv2.resize(noise, (128, 96), interpolation=cv2.INTER_CUBIC), 0, 255).astype(np.uint8)


def encoded(image: Image.Image, kind: str, **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "BMP", "PPM", "WEBP"])
def test_lossless_formats_give_the_stored_pixels(picture, kind, tmp_path):
    options = {"lossless": True} if kind == "WEBP" else {}
    path = tmp_path / "a picture's name -é"
    path.write_bytes(encoded(Image.fromarray(picture), kind, **options))
    rgb, grey = read_image(path)
    assert rgb.dtype == grey.dtype == np.uint8
    np.testing.assert_array_equal(rgb, picture)
    np.testing.assert_array_equal(grey, to_grey(picture))


def test_grey_is_the_stated_conversion():
    rgb = np.array([[[255, 0, 0], [0, 255, 0], [0, 0, 255], [10, 20, 30]]], np.uint8)
    np.testing.assert_array_equal(to_grey(rgb), [[76, 150, 29, 18]])


def test_jpeg_is_the_same_by_both_decoders(picture):
    data = encoded(Image.fromarray(picture), "JPEG", quality=90)
    fast = decode(data).rgb
    # A comment block of 70,000 bytes behind the end hides the end marker from the fast way.
    np.testing.assert_array_equal(decode(data + bytes(70_000)).rgb, fast)
    assert np.abs(fast.astype(int) - picture).mean() < 3


@pytest.mark.parametrize("mode", ["L", "1", "P", "RGBA", "LA"])
def test_modes(picture, mode):
    image = Image.fromarray(picture)
    stored = image.convert("RGBA").convert(mode) if mode == "LA" else image.convert(mode)
    if mode in ("RGBA", "LA"):
        stored.putalpha(0)  # fully transparent: the colours beneath count
    np.testing.assert_array_equal(decode(encoded(stored, "PNG")).rgb, np.asarray(stored.convert("RGB")))


def test_cmyk_jpeg(picture):
    data = encoded(Image.fromarray(picture).convert("CMYK"), "JPEG", quality=95)
    decoded = decode(data)
    assert decoded.mode == "CMYK"
    assert np.abs(decoded.rgb.astype(int) - picture).mean() < 4


@pytest.mark.parametrize(
    ("bits", "kind"), [(16, ".png"), (16, ".tiff"), (12, ".png"), (12, ".tiff"), (14, ".png"), (10, ".png")]
)
@pytest.mark.parametrize("colour", [True, False])
def test_sixteen_bits(picture, bits, kind, colour):
    stored = (picture if colour else picture[:, :, 0]).astype(np.uint16) << (bits - 8)
    stored[0, 0] = 255 << (bits - 8)  # the brightest value tells how many bits are in use
    data = cv2.imencode(kind, stored[:, :, ::-1] if colour else stored)[1].tobytes()
    rgb = decode(data).rgb
    expected = (stored >> (bits - 8)).astype(np.uint8)
    np.testing.assert_array_equal(rgb, expected if colour else np.repeat(expected[:, :, None], 3, axis=2))


def test_sixteen_bit_pgm(picture):
    wide = picture[:, :, 0].astype(np.uint16) * 257
    data = b"P5\n128 96\n65535\n" + wide.astype(">u2").tobytes()
    np.testing.assert_array_equal(decode(data).rgb[:, :, 1], picture[:, :, 0])


def test_pages_are_counted_and_the_first_is_read(picture):
    first, second = Image.fromarray(picture), Image.fromarray(255 - picture)
    decoded = decode(encoded(first, "TIFF", save_all=True, append_images=[second]))
    assert decoded.frames == 2
    np.testing.assert_array_equal(decoded.rgb, picture)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_is_not_applied(picture, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    for kind in ("JPEG", "PNG", "TIFF", "WEBP"):
        decoded = decode(encoded(Image.fromarray(picture), kind, exif=exif))
        assert decoded.rgb.shape == picture.shape
        assert decoded.exif.orientation == orientation, kind
        if kind in ("PNG", "TIFF"):
            np.testing.assert_array_equal(decoded.rgb, picture)


def deep_tiff(stored: np.ndarray, orientation: int) -> bytes:
    """A plain TIFF file of (H, W) or (H, W, 3) uint16 with an orientation tag, little endian, one strip."""
    height, width = stored.shape[:2]
    samples = 1 if stored.ndim == 2 else 3
    pixels = stored.astype("<u2").tobytes()
    bits_at, pixels_at = 8 + 2 + 10 * 12 + 4, 8 + 2 + 10 * 12 + 4 + 6
    bits = (3, samples, 16 if samples == 1 else bits_at)  # type SHORT; three of them lie outside the entry
    entries = {
        256: (4, 1, width), 257: (4, 1, height), 258: bits, 259: (3, 1, 1), 262: (3, 1, 1 if samples == 1 else 2),
        273: (4, 1, pixels_at), 274: (3, 1, orientation), 277: (3, 1, samples), 278: (4, 1, height),
        279: (4, 1, len(pixels)),
    }  # fmt: skip
    directory = b"".join(struct.pack("<HHII", tag, *entry) for tag, entry in sorted(entries.items()))
    head = b"II*\x00" + struct.pack("<IH", 8, len(entries)) + directory + bytes(4)
    return head + struct.pack("<HHH", 16, 16, 16) + pixels


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("colour", [True, False])
def test_orientation_of_deep_tiff_is_not_applied(picture, orientation, colour):
    stored = (picture if colour else picture[:, :, 0]).astype(np.uint16) * 257
    decoded = decode(deep_tiff(stored, orientation))
    assert decoded.exif.orientation == orientation
    np.testing.assert_array_equal(decoded.rgb, picture if colour else np.repeat(picture[:, :, :1], 3, axis=2))


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "BMP", "PPM", "WEBP"])
@pytest.mark.parametrize("part", [0.3, 0.7, 0.95])
def test_a_file_that_ends_early_is_refused(picture, kind, part):
    data = encoded(Image.fromarray(picture), kind)
    with pytest.raises(Unreadable, match=r"truncated|damaged"):
        decode(data[: int(len(data) * part)])


def test_progressive_jpeg_that_ends_early_is_refused(picture):
    data = encoded(Image.fromarray(picture), "JPEG", progressive=True)
    with pytest.raises(Unreadable, match="truncated"):
        decode(data[: len(data) // 2])


def test_damaged_png_is_refused(picture):
    data = bytearray(encoded(Image.fromarray(picture), "PNG"))
    data[len(data) // 2] ^= 0xFF
    with pytest.raises(Unreadable, match=r"damaged|truncated"):
        decode(bytes(data))


def test_bomb_is_refused_before_it_is_decoded():
    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", 200_000, 200_000, 8, 2, 0, 0, 0)
    data = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")
    with pytest.raises(Unreadable, match="decompression bomb: 200000x200000"):
        decode(data)
    with pytest.raises(Unreadable, match="the limit is 100"):
        decode(encoded(Image.new("RGB", (11, 10)), "PNG"), max_pixels=100)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"hello, I am a text", "not an image"),
        (b"GIF89a" + bytes(40), "unsupported format: GIF"),
        (bytes(4) + b"ftypheic" + bytes(40), "HEIC"),
        (b"%PDF-1.4 ...", "PDF"),
        (b"\xff\xd8\xff\xe0", "truncated or damaged"),
        (b"\x89PNG\r\n\x1a\n", "truncated"),
    ],
)
def test_other_files(data, reason):
    with pytest.raises(Unreadable, match=reason):
        decode(data)


def test_float_and_32_bit_pixels_are_refused(picture):
    for mode in ("F", "I"):
        with pytest.raises(Unreadable, match="no defined range"):
            decode(encoded(Image.fromarray(picture[:, :, 0]).convert(mode), "TIFF"))


def test_empty_and_missing_files(tmp_path):
    (tmp_path / "empty.jpg").touch()
    with pytest.raises(Unreadable, match="zero bytes"):
        read_image(tmp_path / "empty.jpg")
    with pytest.raises(Unreadable, match="No such file"):
        read_image(tmp_path / "none.jpg")


def test_mask(tmp_path):
    stored = np.zeros((20, 30), np.uint8)
    stored[:, 10:] = 255
    Image.fromarray(stored).save(tmp_path / "m.png")
    np.testing.assert_array_equal(read_mask(tmp_path / "m.png", 30, 20), stored > 0)
    with pytest.raises(Unreadable, match="the mask is 30x20, its photograph 20x30"):
        read_mask(tmp_path / "m.png", 20, 30)


def test_damaged_files_raise_nothing_but_unreadable(picture):
    """Bytes changed at random, most of them in the headers."""
    generator = np.random.default_rng(3)
    exif = Image.Exif()
    exif[0x0112] = 6
    small = Image.fromarray(picture[:32, :40])
    files = [encoded(small, kind, exif=exif) for kind in ("JPEG", "PNG", "TIFF", "WEBP")]
    files += [encoded(small, "BMP"), encoded(small, "PPM"), deep_tiff(picture[:32, :40].astype(np.uint16), 3)]
    refused = 0
    for round_ in range(700):
        data = bytearray(files[round_ % len(files)])
        for _ in range(generator.integers(1, 5)):
            data[generator.integers(0, 200 if generator.random() < 0.7 else len(data))] = generator.integers(0, 256)
        try:
            rgb = decode(bytes(data), max_pixels=1_000_000).rgb
        except Unreadable as error:
            refused += 1
            assert str(error)
        else:
            assert rgb.dtype == np.uint8 and rgb.ndim == 3 and rgb.shape[2] == 3
    assert refused > 100
