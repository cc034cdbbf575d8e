"""Forty files that give no photograph, of every kind there is, with the reason that each must be listed with."""

import io
import os
import struct
import zlib
from pathlib import Path

import numpy as np
from PIL import Image


def photograph(seed: int, width: int = 160, height: int = 120) -> Image.Image:
    """A picture unlike every other one."""
    noise = np.random.default_rng(seed).integers(0, 256, (height // 4, width // 4, 3), np.uint8)
    return Image.fromarray(noise).resize((width, height), Image.Resampling.BICUBIC)


def encoded(image: Image.Image, kind: str, **options) -> bytes:
    """The file's content."""
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def write_bad_files(folder: Path, good: Path) -> dict[str, str]:
    """Write 40 entries into `folder`, where the photograph `good` lies too; returns reasons (regular expressions) by
    the name under which each is listed."""
    wanted: dict[str, str] = {}

    def write(name: str, content: bytes, reason: str) -> None:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        wanted[name] = reason

    kinds = {".jpg": "JPEG", ".png": "PNG", ".tif": "TIFF", ".webp": "WEBP", ".bmp": "BMP", ".ppm": "PPM"}
    for number, (suffix, kind) in enumerate(kinds.items()):
        data = encoded(photograph(100 + number), kind)
        write(f"truncated{suffix}", data[: len(data) * 2 // 3], "truncated|damaged")
        write(f"empty{suffix}", b"", "zero bytes")
        write(f"small/{number}{suffix}", encoded(photograph(200 + number, 40, 32), kind), "too small: 40x32")
        write(f"text{suffix}", b"this is no picture at all\n" * 20, "not an image")
    progressive = encoded(photograph(300), "JPEG", progressive=True)
    write("progressive.jpg", progressive[: len(progressive) // 2], "truncated")
    write("header only.jpg", progressive[:20], "truncated|damaged")
    flipped = bytearray(encoded(photograph(301), "PNG"))
    flipped[len(flipped) // 2] ^= 0x10
    write("flipped bit.png", bytes(flipped), "damaged: the check sum")
    write("bomb.png", bomb(), "decompression bomb: 60000x60000")
    write("animation.gif", encoded(photograph(302), "GIF"), "unsupported format: GIF")
    write("phone.heic", bytes(4) + b"ftypheic" + bytes(60), "unsupported format: HEIC")
    write("depth.tif", encoded(photograph(303).convert("F"), "TIFF"), "floating-point pixels")
    write("notes.txt", b"Taken on Sunday.\n", "not an image")
    write("Thumbs.db", bytes(range(256)), "not an image")
    write("z copy of a good one.jpg", good.read_bytes(), f"duplicate: same pixels as {good.name}")
    write("z the same pixels.png", encoded(Image.open(good), "PNG"), f"duplicate: same pixels as {good.name}")
    write("line\nbreak.jpg", encoded(photograph(304), "JPEG"), "control character")
    wanted["line\\nbreak.jpg"] = wanted.pop("line\nbreak.jpg")
    with open(os.fsencode(folder) + b"/latin-\xe9.jpg", "wb") as file:
        file.write(encoded(photograph(305), "JPEG"))
    wanted["latin-\\xe9.jpg"] = "not valid UTF-8"
    (folder / "broken link.jpg").symlink_to("nowhere.jpg")
    wanted["broken link.jpg"] = "broken symbolic link"
    (folder / "loop").symlink_to(".", target_is_directory=True)
    wanted["loop"] = "symbolic link to a folder that is read already"
    os.mkfifo(folder / "pipe.jpg")
    wanted["pipe.jpg"] = "not a file"
    assert len(wanted) == 40, len(wanted)
    return wanted


def bomb() -> bytes:
    """A PNG file of a few bytes that says it is 60,000 pixels wide and high."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")
