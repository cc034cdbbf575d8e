"""The survey decides about every file knowingly, and says so."""

import os
import re
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image
from PIL.TiffImagePlugin import IFDRational

from datasets.photos.read import read_image
from desdis.errors import UserError
from pipeline.stages.survey import ImagesOptions, survey
from tests.datasets.photos.bad_files import encoded, photograph, write_bad_files


def surveyed(folder: Path, options: ImagesOptions | None = None, **given):
    """A survey with the output beside the folder."""
    workspace_dir = folder.parent / "output" / "frames"
    return survey(folder, options or ImagesOptions(), workspace_dir=workspace_dir, **given)


def write(path: Path, seed: int, size=(160, 120), **exif) -> Path:
    """A photograph unlike every other one, perhaps with EXIF (model, focal, f35, orientation)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    tags = Image.Exif()
    for name, value in exif.items():
        if name in ("make", "model", "orientation"):
            tags[{"make": 0x010F, "model": 0x0110, "orientation": 0x0112}[name]] = value
        else:
            tags.get_ifd(0x8769)[{"focal": 0x920A, "f35": 0xA405}[name]] = value
    path.write_bytes(encoded(photograph(seed, *size), "JPEG", exif=tags))
    return path


@pytest.fixture
def folder(tmp_path) -> Path:
    images = tmp_path / "images"
    images.mkdir()
    return images


def test_forty_bad_files_among_eight_good_ones(folder):
    good = [write(folder / f"{i}.jpg", i) for i in range(8)]
    wanted = write_bad_files(folder, good[0])
    found = surveyed(folder)
    assert [photo.name for photo in found.photos] == [path.name for path in good]
    assert {item.name for item in found.skipped} == set(wanted)
    assert len(found.skipped) == len(wanted) == 40
    for item in found.skipped:
        assert re.search(wanted[item.name], item.reason), f"{item.name}: {item.reason}"
        f"{item.name}: {item.reason}".encode()  # can be printed and written
    with pytest.raises(UserError, match="40 skipped, and --strict allows none"):
        surveyed(folder, strict=True)


def test_good_names(folder, tmp_path):
    names = [
        "a b.jpg",
        'it\'s "quoted".jpg',
        "-dash-.jpg",
        "Größe 写真.jpg",
        "x/1.jpg",
        "y/1.jpg",
        "UPPER.JPEG",
        "no suffix",
    ]
    for number, name in enumerate(names):
        write(folder / name, number)
    write(tmp_path / "elsewhere" / "linked.jpg", 20)
    (folder / "linked").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    (folder / "z.jpg").symlink_to(tmp_path / "elsewhere" / "linked.jpg")
    found = surveyed(folder)
    assert {photo.name for photo in found.photos} == {*names, "linked/linked.jpg"}
    assert [(s.name, s.reason) for s in found.skipped] == [("z.jpg", "duplicate: same pixels as linked/linked.jpg")]
    for photo in found.photos:
        assert read_image(photo.path)[0].shape == (photo.height, photo.width, 3)


def test_links_that_go_round_end(folder, tmp_path):
    for number in range(3):
        write(folder / "a" / f"{number}.jpg", number)
    (folder / "a" / "up").symlink_to(folder, target_is_directory=True)
    (folder / "b").symlink_to(folder / "a", target_is_directory=True)
    found = surveyed(folder)
    assert [photo.name for photo in found.photos] == ["a/0.jpg", "a/1.jpg", "a/2.jpg"]
    assert [item.name for item in found.skipped] == ["a/up", "b"]


def test_unreadable_file_and_folder(folder, monkeypatch):
    """Permissions mean nothing to root, so the refusal is made here."""
    for name in ("1.jpg", "closed.jpg", "closed/3.jpg"):
        write(folder / name, len(name))
    read_bytes, scandir = Path.read_bytes, os.scandir

    def refusing(real):
        def opened(path):
            if Path(path).name.startswith("closed"):
                raise PermissionError(13, "Permission denied")
            return real(path)

        return opened

    monkeypatch.setattr(Path, "read_bytes", refusing(read_bytes))
    monkeypatch.setattr(os, "scandir", refusing(scandir))
    assert {item.name: item.reason for item in surveyed(folder).skipped} == {
        "closed": "cannot be opened: Permission denied",
        "closed.jpg": "cannot be opened: Permission denied",
    }


def test_nothing_to_survey(folder, tmp_path):
    with pytest.raises(UserError, match="no such folder"):
        surveyed(tmp_path / "none")
    with pytest.raises(UserError, match="neither a folder nor a video"):
        surveyed(write(tmp_path / "one.jpg", 1))
    with pytest.raises(UserError, match="no photograph can be used"):
        surveyed(folder)
    (folder / "a.jpg").write_bytes(b"")
    with pytest.raises(UserError, match=r"a\.jpg: zero bytes"):
        surveyed(folder)


def test_bounds_are_options(folder):
    write(folder / "1.jpg", 1)
    write(folder / "2.jpg", 2, (200, 150))
    found = surveyed(folder, ImagesOptions(min_size=130))
    assert [photo.name for photo in found.photos] == ["2.jpg"]
    found = surveyed(folder, ImagesOptions(max_pixels=20_000))
    assert [photo.name for photo in found.photos] == ["1.jpg"]


def cameras_of(found) -> dict[str, int]:
    return {photo.name: photo.camera_id for photo in found.photos}


def test_photographs_of_one_camera_and_focal_length_share(folder):
    write(folder / "1.jpg", 1, model="M", focal=IFDRational(5), f35=28)
    write(folder / "2.jpg", 2, model="M", focal=IFDRational(5), f35=28)
    write(folder / "zoomed.jpg", 3, model="M", focal=IFDRational(9), f35=50)
    write(folder / "turned.jpg", 4, (120, 160), model="M", focal=IFDRational(5), f35=28)
    write(folder / "other.jpg", 5, model="N", focal=IFDRational(5), f35=28)
    found = surveyed(folder)
    ids = cameras_of(found)
    assert ids["1.jpg"] == ids["2.jpg"]
    assert len(set(ids.values())) == 4
    camera = found.cameras[ids["1.jpg"]]
    assert camera.model == "SIMPLE_RADIAL" and camera.prior_focal and not camera.known
    assert camera.params == pytest.approx((200 * 28 / 43.27, 80, 60, 0))
    assert found.cameras[ids["turned.jpg"]].params == pytest.approx((200 * 28 / 43.27, 60, 80, 0))


def test_sensor_width_where_colmap_knows_it(folder):
    """Without a 35 mm equivalent COLMAP's own table counts: the Canon EOS 5D Mark II has 36 mm."""
    for number in range(2):
        write(folder / f"{number}.jpg", number, make="Canon", model="Canon EOS 5D Mark II", focal=IFDRational(50))
    write(folder / "unheard of.jpg", 2, make="Nobody", model="Box", focal=IFDRational(50))
    found = surveyed(folder)
    ids = cameras_of(found)
    assert ids["0.jpg"] == ids["1.jpg"] != ids["unheard of.jpg"]
    assert found.cameras[ids["0.jpg"]].params[0] == pytest.approx(160 * 50 / 36, rel=0.01)
    assert found.cameras[ids["0.jpg"]].prior_focal
    assert not found.cameras[ids["unheard of.jpg"]].prior_focal


def test_a_folder_of_one_size_is_one_camera(folder):
    for number in range(5):
        write(folder / f"{number}.jpg", number)
    found = surveyed(folder)
    assert set(cameras_of(found).values()) == {1}
    assert found.cameras[1].params == pytest.approx((192, 80, 60, 0))
    assert not found.cameras[1].prior_focal
    assert any("taken as one camera" in note for note in found.notes)
    apart = surveyed(folder, ImagesOptions(cameras="per_image", camera_model="OPENCV", default_focal_factor=1.0))
    assert len(apart.cameras) == 5
    assert apart.cameras[1].params == pytest.approx((160, 160, 80, 60, 0, 0, 0, 0))


def test_portrait_and_landscape_are_two_cameras(folder):
    for number in range(6):
        write(folder / f"{number}.jpg", number, (160, 120) if number % 2 else (120, 160))
    ids = cameras_of(surveyed(folder))
    assert len(set(ids.values())) == 2
    assert ids["0.jpg"] == ids["2.jpg"] != ids["1.jpg"] == ids["3.jpg"]


def test_photographs_of_many_tourists_share_nothing(folder):
    sizes = [(160, 120), (160, 120), (160, 110), (150, 120), (160, 104), (112, 160), (160, 107), (160, 100)]
    for number, size in enumerate(sizes):
        write(folder / f"{number}.jpg", number, size)
    found = surveyed(folder)
    assert len(found.cameras) == 8
    assert any("each gets a camera of its own" in note for note in found.notes)


def test_another_size_than_the_rest_of_its_camera(folder):
    for number in range(4):
        write(folder / "a" / f"{number}.jpg", number)
    write(folder / "a" / "odd.jpg", 5, (200, 150))
    write(folder / "b" / "1.jpg", 6, (200, 150))
    found = surveyed(folder, ImagesOptions(cameras="per_folder"))
    assert [(s.name, s.reason) for s in found.skipped] == [
        ("a/odd.jpg", "another size (200x150) than the rest of its camera (160x120)")
    ]
    assert len(found.cameras) == 2
    found = surveyed(folder, ImagesOptions(cameras="single"))
    assert {item.name for item in found.skipped} == {"a/odd.jpg", "b/1.jpg"}
    assert len(found.cameras) == 1


def test_known_cameras(folder, tmp_path):
    for number in range(3):
        write(folder / f"{number}.jpg", number)
    write(folder / "twice as large.jpg", 4, (320, 240))
    write(folder / "another shape.jpg", 5, (160, 160))
    given = tmp_path / "cameras.txt"
    given.write_text("# cameras\n1 OPENCV 160 120 150 151 80.5 60.5 0.01 0 0 0\n")
    found = surveyed(folder, cameras=given)
    ids = cameras_of(found)
    assert ids["0.jpg"] == ids["1.jpg"] == ids["2.jpg"]
    camera = found.cameras[ids["0.jpg"]]
    assert camera.known and camera.prior_focal
    assert camera.params == (150, 151, 80.5, 60.5, 0.01, 0, 0, 0)
    assert found.cameras[ids["twice as large.jpg"]].params == (300, 302, 161, 121, 0.01, 0, 0, 0)
    assert [(s.name, s.reason) for s in found.skipped] == [
        ("another shape.jpg", "another size (160x160) than its known camera (160x120)")
    ]
    given.write_text("1 SIMPLE_RADIAL 80 60 150 40 30 0.01\n")
    assert surveyed(folder, cameras=given).cameras[1].params == (300, 80, 60, 0.01)


def test_K_txt_holds_for_the_photographs_as_they_are(folder, tmp_path):
    write(folder / "1.jpg", 1)
    K = tmp_path / "K.txt"
    K.write_text("150 0 79.5\n0 151 59.5\n0 0 1\n")
    camera = surveyed(folder, cameras=K).cameras[1]
    assert (camera.width, camera.height) == (160, 120)
    assert camera.params == (150, 151, 80, 60)
    K.write_text("1500 0 795\n0 1510 595\n0 0 1\n")
    with pytest.raises(UserError, match="than its known camera"):
        surveyed(folder, cameras=K)


def test_masks(folder, tmp_path):
    for number in range(2):
        write(folder / f"{number}.jpg", number)
    masks = tmp_path / "masks"
    masks.mkdir()
    with pytest.raises(UserError, match="no mask belongs to a photograph"):
        surveyed(folder, masks=masks)
    Image.new("L", (160, 120), 255).save(masks / "0.jpg.png")
    found = surveyed(folder, masks=masks)
    assert [photo.mask for photo in found.photos] == [masks / "0.jpg.png", None]
    assert any("1 of 2 photographs have no mask" in note for note in found.notes)
    Image.new("L", (120, 160), 255).save(masks / "1.jpg.png")
    with pytest.raises(UserError, match=r"1\.jpg\.png: the mask is 120x160, its photograph 160x120"):
        surveyed(folder, masks=masks)
    (masks / "1.jpg.png").write_bytes(b"nothing")
    with pytest.raises(UserError, match=r"1\.jpg\.png: not an image"):
        surveyed(folder, masks=masks)


@pytest.mark.parametrize("place", ["", "masks"])
def test_masks_and_output_below_the_photographs_are_not_photographs(folder, place):
    write(folder / "0.jpg", 0)
    masks = folder / place
    masks.mkdir(exist_ok=True)
    Image.new("L", (160, 120), 255).save(masks / "0.jpg.png")
    (folder / "result").mkdir()
    (folder / "result" / "features.h5").write_bytes(b"0")
    found = survey(folder, ImagesOptions(), masks=masks, workspace_dir=folder / "result" / "frames")
    assert [photo.name for photo in found.photos] == ["0.jpg"]
    assert not found.skipped


def test_roll_draws_upright_frames_upright(folder):
    """A level photograph, stored turned with the EXIF tag that says so: the frame at `roll` sees what it saw level."""
    level = photograph(7, 161, 121)
    stored = {1: level, 3: level.rotate(180), 6: level.rotate(90, expand=True), 8: level.rotate(-90, expand=True)}
    for orientation, image in stored.items():
        exif = Image.Exif()
        exif[0x0112] = orientation
        (folder / f"{orientation}.png").write_bytes(encoded(image, "PNG", exif=exif))
    # Pillow turns by whole pixels: the middle stays the middle.
    patches = {}
    for photo in surveyed(folder).photos:
        angle = np.deg2rad(photo.roll)
        A = 2.0 * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])  # as in pipeline.types
        u, v = np.meshgrid(np.arange(-8.0, 9), np.arange(-8.0, 9))
        x, y = A @ np.stack([u.ravel(), v.ravel()]) + np.array([[photo.width / 2], [photo.height / 2]]) - 0.5
        grey = read_image(photo.path)[1]
        x, y = (m.reshape(17, 17).astype(np.float32) for m in (x, y))
        patches[photo.name] = cv2.remap(grey, x, y, cv2.INTER_LINEAR).astype(int)
    assert len(patches) == 4
    for name, patch in patches.items():
        assert np.abs(patch - patches["1.png"]).max() <= 1, name


def test_orientation_is_noted(folder):
    for number, orientation in enumerate((1, 6, 6, 2)):
        write(folder / f"{number}.jpg", number, orientation=orientation)
    found = surveyed(folder)
    assert [photo.roll for photo in found.photos] == [0, 270, 270, 180]
    assert any("2 at 270 degrees" in note for note in found.notes)
    assert any("1 photographs are stored mirrored" in note for note in found.notes)


def test_fingerprint_follows_what_matters(folder, tmp_path):
    for number in range(3):
        write(folder / f"{number}.jpg", number)
    first = surveyed(folder).fingerprint
    assert surveyed(folder).fingerprint == first
    (folder / "notes.txt").write_text("of no matter")
    assert surveyed(folder).fingerprint == first
    (tmp_path / "cameras.txt").write_text("1 PINHOLE 160 120 150 150 80 60\n")
    assert surveyed(folder, cameras=tmp_path / "cameras.txt").fingerprint != first
    write(folder / "2.jpg", 33)
    assert surveyed(folder).fingerprint != first


def test_progress_counts_files(folder):
    for number in range(3):
        write(folder / f"{number}.jpg", number)
    done: list[int] = []
    surveyed(folder, progress=done.append)
    assert done == [1, 2, 3]


def test_video_gives_the_sharpest_frame_of_each_interval(tmp_path):
    video = tmp_path / "walk.avi"
    writer = cv2.VideoWriter(str(video), cv2.VideoWriter.fourcc(*"MJPG"), 10.0, (160, 120))
    assert writer.isOpened()
    sharp = (3, 7, 11, 19)
    for index in range(20):
        frame = np.asarray(photograph(index))
        writer.write(frame if index in sharp else cv2.GaussianBlur(frame, (0, 0), 4))
    writer.release()
    output = tmp_path / "output" / "frames"
    found = survey(video, ImagesOptions(video_rate=2.0), workspace_dir=output)  # intervals of five frames
    assert [photo.name for photo in found.photos] == [f"frame_{i:06d}.jpg" for i in sharp]
    assert found.root == output
    assert len(found.cameras) == 1
    times = [path.stat().st_mtime_ns for path in sorted(output.iterdir())]
    again = survey(video, ImagesOptions(video_rate=2.0), workspace_dir=output)
    assert again.fingerprint == found.fingerprint
    assert times == [path.stat().st_mtime_ns for path in sorted(output.iterdir())]  # kept, not decoded again
    assert len(survey(video, ImagesOptions(video_rate=10.0), workspace_dir=output).photos) == 20
    video.write_bytes(b"no video")
    with pytest.raises(UserError, match="cannot be decoded"):
        survey(video, ImagesOptions(), workspace_dir=output)
