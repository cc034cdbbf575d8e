"""Readers and writers of other people's formats: photographs, scenes with poses, patch sets."""

import zlib  # noqa: F401  before pycolmap, always: its own zlib otherwise corrupts the heap when a PNG is written
