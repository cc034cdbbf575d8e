"""Layouts that other programs read: one file a program, each with one function `write(run, folder, options)`.

A `write` fills an empty folder from a finished run and returns a line for the screen. Formats: docs/interchange.md.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class ExportOptions:
    """scene: where a submission puts the scene, "dataset/scene" (IMC only)."""

    scene: str = ""


EXPORTS = {
    "hloc": "pipeline.exports.hloc:write",
    "imc": "pipeline.exports.imc:write",
    "colmap": "pipeline.exports.colmap:write",
    "deep-image-matching": "pipeline.exports.deep_image_matching:write",
    "npz": "pipeline.exports.npz:write",
    "nerfstudio": "pipeline.exports.nerfstudio:write",
    "3dgs": "pipeline.exports.gaussian_splatting:write",
}
