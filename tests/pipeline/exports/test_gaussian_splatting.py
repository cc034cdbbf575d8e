"""Export to Gaussian splatting, read back by its own rules."""

from pathlib import Path

import cv2
import numpy as np

from pipeline.export import export
from tests.pipeline.synthetic_run import FOCAL, HEIGHT, NESTED, WIDTH, reconstruct, write_run


def test_gaussian_splatting(run, tmp_path):
    import pycolmap

    export(run.work.output, "3dgs", tmp_path / "3dgs")
    model = pycolmap.Reconstruction(tmp_path / "3dgs/sparse/0")
    names = {name.replace("/", "_") for name in NESTED}
    assert {image.name for image in model.images.values()} == names
    for image in model.images.values():
        pixels = cv2.imread(str(tmp_path / "3dgs/images" / Path(image.name).name))
        camera = model.cameras[image.camera_id]
        assert camera.model.name == "PINHOLE" and pixels.shape[:2] == (camera.height, camera.width)
    assert model.num_points3D() > 100
    assert sorted(p.name for p in (tmp_path / "3dgs").iterdir()) == ["images", "sparse"]


def test_gaussian_splatting_takes_the_distortion_out(tmp_path):
    """Keypoints of the PINHOLE model are those of the run without their distortion."""
    import pycolmap

    run = reconstruct(write_run(tmp_path / "scene", ("a.png", "b.png", "c.png"), points=120))
    model = pycolmap.Reconstruction(run.work.sparse / "0")
    (camera_id,) = model.cameras
    model.cameras[camera_id].model = pycolmap.CameraModelId.SIMPLE_RADIAL
    model.cameras[camera_id].params = [FOCAL, WIDTH / 2 + 3.0, HEIGHT / 2 - 2.0, 0.08]
    model.write(run.work.sparse / "0")
    export(run.work.output, "3dgs", tmp_path / "3dgs")
    made = pycolmap.Reconstruction(tmp_path / "3dgs/sparse/0")
    theirs = {image.name: image for image in made.images.values()}
    for image in model.images.values():
        other = theirs[image.name]
        camera = made.cameras[other.camera_id]
        assert camera.model.name == "PINHOLE"
        np.testing.assert_allclose(other.cam_from_world().matrix(), image.cam_from_world().matrix(), atol=1e-9)
        stored, plain = (np.array([p.xy for p in i.points2D]) for i in (image, other))
        rays = np.c_[model.cameras[image.camera_id].cam_from_img(stored), np.ones(len(stored))]
        np.testing.assert_allclose(camera.img_from_cam(rays), plain, atol=1e-2)
        assert np.abs(plain - stored).max() > 0.5
        assert cv2.imread(str(tmp_path / "3dgs/images" / other.name)).shape[:2] == (camera.height, camera.width)
