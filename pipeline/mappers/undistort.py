"""COLMAP's undistortion: photographs and a model in, photographs without lens distortion and a PINHOLE model out."""

from pathlib import Path

import pycolmap


def undistort(model: Path, images: Path, scratch: Path, sparse: Path, names: dict[str, str]) -> int:
    """Write scratch/images/<name> and the model, its images renamed by `names`, to `sparse`; return the count."""
    pycolmap.undistort_images(scratch, model, images)
    made = pycolmap.Reconstruction(scratch / "sparse")
    for image_id in made.reg_image_ids():
        image = made.images[image_id]
        image.name = names[image.name]
    sparse.mkdir(parents=True)
    made.write(sparse)
    return made.num_reg_images()
