"""What every mapper needs of pycolmap's models: how good one is, the folder with the largest as 0, and its reading."""

import shutil
from pathlib import Path

import pycolmap

from datasets.cameras import Pose
from pipeline.types import Model


def score(reconstruction: pycolmap.Reconstruction) -> tuple[int, int]:
    """(registered images, observations): more of the first is better, then more of the second."""
    return reconstruction.num_reg_images(), reconstruction.compute_num_observations()


def write_largest_first(reconstructions: list[pycolmap.Reconstruction], output: Path) -> None:
    """Replace output/0..n by these models, largest first."""
    if output.exists():
        shutil.rmtree(output)
    output.mkdir(parents=True)
    for index, reconstruction in enumerate(sorted(reconstructions, key=score, reverse=True)):
        folder = output / str(index)
        folder.mkdir()
        reconstruction.write(folder)


def read_models(sparse: Path) -> list[Model]:
    """Summaries of sparse/0, sparse/1, ..."""
    folders = sorted((f for f in sparse.iterdir() if f.name.isdecimal()), key=lambda f: int(f.name))
    models = []
    for folder in folders:
        reconstruction = pycolmap.Reconstruction(folder)
        models.append(
            Model(
                index=int(folder.name),
                path=folder,
                registered=tuple(sorted(reconstruction.images[i].name for i in reconstruction.reg_image_ids())),
                points3D=reconstruction.num_points3D(),
                observations=reconstruction.compute_num_observations(),
                mean_track_length=reconstruction.compute_mean_track_length(),
                mean_reprojection_error_px=reconstruction.compute_mean_reprojection_error(),
            )
        )
    return models


def read_poses(model: Path) -> dict[str, Pose]:
    """cam_from_world of every registered image, by name."""
    reconstruction = pycolmap.Reconstruction(model)
    poses = {}
    for image_id in reconstruction.reg_image_ids():
        image = reconstruction.images[image_id]
        cam_from_world = image.cam_from_world()
        poses[image.name] = Pose(cam_from_world.rotation.matrix(), cam_from_world.translation)
    return poses


def write_points(sparse: Path, path: Path) -> None:
    """The largest model's points in colour, as PLY."""
    if (sparse / "0").exists():
        pycolmap.Reconstruction(sparse / "0").export_PLY(path)
