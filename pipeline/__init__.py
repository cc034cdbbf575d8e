"""The application: stages from photographs to a COLMAP model and a report."""

import zlib  # noqa: F401  before pycolmap, always: its own zlib otherwise corrupts the heap when a PNG is written
