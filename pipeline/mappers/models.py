"""What every mapper needs of pycolmap's models: how good one is, the folder with the largest as 0, and its reading."""

import shutil
from pathlib import Path

import pycolmap

from datasets.cameras import Pose
from pipeline.mappers import MapperOptions, MappingTask
from pipeline.types import Model

_SETTLED = 1e-5  # relative decrease of the cost that ends the robust adjustment: poses move far less than between seeds


def score(reconstruction: pycolmap.Reconstruction) -> tuple[int, int]:
    """(registered images, observations): more of the first is better, then more of the second."""
    return reconstruction.num_reg_images(), reconstruction.compute_num_observations()


def refine_robustly(sparse: Path, task: MappingTask, mapper: MapperOptions) -> None:
    """A last bundle adjustment of every model, with a Cauchy loss of `robust_scale` pixels: COLMAP's own is plain least
    squares, in which the few wrong observations that survive its filters pull at every camera. What the loss lets go
    is dropped."""
    min_tri_angle = pycolmap.IncrementalMapperOptions().filter_min_tri_angle
    options = pycolmap.BundleAdjustmentOptions()
    options.print_summary = False
    options.ceres.loss_function_type = pycolmap.LossFunctionType.CAUCHY
    options.ceres.loss_function_scale = mapper.robust_scale
    options.ceres.solver_options.num_threads = task.threads
    options.ceres.solver_options.function_tolerance = _SETTLED
    for folder in _folders(sparse):
        reconstruction = pycolmap.Reconstruction(folder)
        config = pycolmap.BundleAdjustmentConfig()
        for image_id in reconstruction.reg_image_ids():
            config.add_image(image_id)
        for camera_id in task.fixed_cameras & set(reconstruction.cameras):
            config.set_constant_cam_intrinsics(camera_id)
        config.fix_gauge(pycolmap.BundleAdjustmentGauge.TWO_CAMS_FROM_WORLD)
        pycolmap.create_default_bundle_adjuster(options, config, reconstruction).solve()
        manager = pycolmap.ObservationManager(reconstruction)
        manager.filter_all_points3D(mapper.filter_max_reproj_error, min_tri_angle)
        reconstruction.update_point_3d_errors()
        reconstruction.write(folder)


def write_largest_first(reconstructions: list[pycolmap.Reconstruction], output: Path) -> None:
    """Replace output/0..n by these models, largest first; one whose photographs are all in larger ones adds nothing
    and is left out."""
    if output.exists():
        shutil.rmtree(output)
    output.mkdir(parents=True)
    covered: set[int] = set()
    for reconstruction in sorted(reconstructions, key=score, reverse=True):
        registered = set(reconstruction.reg_image_ids())
        if registered <= covered:
            continue
        folder = output / str(len(_folders(output)))
        folder.mkdir()
        reconstruction.write(folder)
        covered |= registered


def read_models(sparse: Path) -> list[Model]:
    """Summaries of sparse/0, sparse/1, ..."""
    models = []
    for folder in _folders(sparse):
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


def _folders(sparse: Path) -> list[Path]:
    return sorted((f for f in sparse.iterdir() if f.name.isdecimal()), key=lambda f: int(f.name))


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
