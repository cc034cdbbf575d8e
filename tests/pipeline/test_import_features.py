"""Other people's files through our mapping: round trips give the same model, bad files are named."""

import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest

from desdis.errors import UserError
from pipeline.export import export
from pipeline.finished import FinishedRun
from pipeline.import_features import import_features, main
from pipeline.recipe import load_recipe
from tests.pipeline.synthetic_run import HEIGHT, WIDTH, Run, write_run

NAMES = ("0001.png", "a/0002.png", "a/b/wide.png", "b-c.png", "z.png")
RECIPE = load_recipe(None, ["deterministic=true", "device=cpu"])


@pytest.fixture(scope="module")
def source(tmp_path_factory) -> Run:
    return write_run(tmp_path_factory.mktemp("scene"), NAMES)


@pytest.fixture(scope="module")
def cameras(source, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("cameras") / "cameras.txt"
    camera = source.survey.cameras[1]
    path.write_text(f"1 PINHOLE {WIDTH} {HEIGHT} {' '.join(map(str, camera.params))}\n")
    return path


@pytest.fixture(scope="module")
def first(source, cameras, tmp_path_factory) -> FinishedRun:
    """The run's own HDF5 files, imported: hloc's layout."""
    output = tmp_path_factory.mktemp("first") / "run"
    files = source.work
    report = import_features(RECIPE, files.features, source.survey.root, output, matches=files.matches, cameras=cameras)
    assert report["models"][0]["registered_images"] == len(NAMES)
    assert any("features from" in note for note in report["notes"])
    return FinishedRun(output)


def same_matches(one: FinishedRun, two: FinishedRun) -> None:
    assert one.pairs == two.pairs
    for (_, a), (_, b) in zip(one.matches(), two.matches(), strict=True):
        np.testing.assert_array_equal(a.indices, b.indices)


def same_model(one: FinishedRun, two: FinishedRun) -> None:
    import pycolmap

    a, b = pycolmap.Reconstruction(one.model), pycolmap.Reconstruction(two.model)
    assert a.num_points3D() == b.num_points3D() > 100
    poses = [{i.name: i.cam_from_world().matrix() for i in model.images.values()} for model in (a, b)]
    assert poses[0].keys() == poses[1].keys()
    for name in poses[0]:
        np.testing.assert_array_equal(poses[0][name], poses[1][name])


def test_matches_are_those_of_the_source(source, first):
    theirs = FinishedRun.__new__(FinishedRun)
    theirs._matches = source.work.matches
    same_matches(theirs, first)


@pytest.mark.parametrize("layout", ["hloc", "imc"])
def test_round_trip_gives_the_same_matches_and_model(source, first, cameras, layout, tmp_path):
    export(first.output, layout, tmp_path / "out", scene="d/s")
    folder = tmp_path / "out" / ("d/s" if layout == "imc" else "")
    features = folder if layout == "imc" else folder / "features.h5"
    report = import_features(
        RECIPE, features, source.survey.root, tmp_path / "again", matches=folder / "matches.h5", cameras=cameras
    )
    again = FinishedRun(tmp_path / "again")
    same_matches(first, again)
    same_model(first, again)
    assert report["models"][0]["registered_images"] == len(NAMES)


def test_accuracy_against_a_reference_and_matching_here(source, cameras, tmp_path):
    """Descriptors that tell every point apart: matched by our matcher, scored by our evaluation."""
    from datasets.scenes.colmap_model import write_model

    names = [photo.name for photo in source.survey.photos]
    write_model(tmp_path / "truth", source.poses, dict.fromkeys(names, source.survey.cameras[1]))
    of_point = np.random.default_rng(1).normal(size=(len(source.points), 96)).astype(np.float32)
    with h5py.File(tmp_path / "theirs.h5", "w") as theirs, h5py.File(source.work.features) as ours:
        for name in names:
            theirs[f"{name}/keypoints"] = ours[f"{name}/keypoints"][()]
            theirs[f"{name}/descriptors"] = of_point[source.seen[name]].T  # not of unit length
    report = import_features(
        RECIPE, tmp_path / "theirs.h5", source.survey.root, tmp_path / "run",
        cameras=cameras, reference=tmp_path / "truth",
    )  # fmt: skip
    assert report["accuracy"]["maa_10"] > 0.99 and report["accuracy"]["registered_images"] == len(NAMES)


def test_photographs_without_features_are_listed(source, cameras, tmp_path):
    with h5py.File(source.work.features) as file, h5py.File(tmp_path / "part.h5", "w") as part:
        for name in NAMES[:4]:
            file.copy(name, part, name)
        part["stranger.jpg/keypoints"] = np.zeros((3, 2), np.float32)
    report = import_features(
        RECIPE, tmp_path / "part.h5", source.survey.root, tmp_path / "run", matches=source.work.matches, cameras=cameras
    )
    skipped = {item["name"]: item["reason"] for item in report["images"]["skipped"]}
    assert set(skipped) == {"z.png"} and "no features in" in skipped["z.png"]
    assert any("stranger.jpg" in note for note in report["notes"])


def test_old_pair_keys_and_reversed_pairs(source, tmp_path):
    from pipeline.imports import read_matches

    counts = {name: len(seen) for name, seen in source.seen.items()}
    a, b, c = "0001.png", "a/0002.png", "b-c.png"
    with h5py.File(tmp_path / "old.h5", "w") as file:
        for key, left in ((f"{b.replace('/', '-')}_{a}", b), (f"{c}/{a}", c)):
            matches0 = np.full(counts[left], -1, np.int16)
            matches0[[0, 4]] = [7, 2]
            file[f"{key}/matches0"] = matches0
            file[f"{key}/matching_scores0"] = np.linspace(0, 1, len(matches0), dtype=np.float16)
    found = dict(read_matches(tmp_path / "old.h5", source.survey.photos).matches(counts))
    assert {pair: m.indices.tolist() for pair, m in found.items()} == {
        (b, a): [[0, 7], [4, 2]],
        (c, a): [[0, 7], [4, 2]],
    }


# Each case spoils one thing; the message must name the file, the entry and what is wrong.
SPOILED_FEATURES = {
    "no keypoints": (lambda g: g.__delitem__("keypoints"), r"z\.png: has no dataset keypoints"),
    "empty group": (lambda g: [g.__delitem__(key) for key in list(g)], r"z\.png: .*\(holds nothing"),
    "NaN": (lambda g: g["keypoints"].__setitem__(0, np.nan), r"z\.png: keypoints hold NaN"),
    "shape": (lambda g: replace(g, "keypoints", np.zeros((5, 3))), r"z\.png: keypoints has shape \(5, 3\)"),
    "outside": (lambda g: g["keypoints"].__setitem__(0, 9999), r"z\.png: keypoints lie outside"),
    "turned": (lambda g: replace(g, "descriptors", g["descriptors"][()].T), r"z\.png: descriptors are \(N, D\)"),
    "fewer": (lambda g: replace(g, "descriptors", g["descriptors"][()][:, :9]), r"z\.png: .* but descriptors for 9"),
    "NaN descriptors": (lambda g: g["descriptors"].__setitem__(0, np.nan), r"z\.png: descriptors hold NaN"),
    "none": (lambda g: g.__delitem__("descriptors"), r"z\.png: has no descriptors; give the matches"),
    "scores": (lambda g: replace(g, "scores", np.zeros(3)), r"z\.png: scores has shape \(3,\), expected \(\d+\)"),
    "words": (lambda g: replace(g, "scores", "high"), r"z\.png: scores holds no numbers"),
    "group": (lambda g: replace(g, "scores", None), r"z\.png: scores is an empty group, a dataset expected"),
    "frames": (lambda g: replace(g, "lafs", np.zeros((3, 2, 3))), r"z\.png: lafs has shape \(3, 2, 3\)"),
    "one number": (lambda g: replace(g, "image_size", 640), r"z\.png: image_size has shape \(\)"),
    "size": (lambda g: replace(g, "image_size", np.array([640, 480])), r"z\.png: features of an image of 640 x 480"),
}  # fmt: skip


def replace(group: h5py.Group, key: str, value: np.ndarray | float | str | None) -> None:
    """The entry as another array, number or word, or (None) as an empty group."""
    if key in group:
        del group[key]
    if value is None:
        group.create_group(key)
    else:
        group[key] = value


@pytest.mark.parametrize("case", SPOILED_FEATURES)
def test_spoiled_features(source, case, tmp_path):
    spoil, words = SPOILED_FEATURES[case]
    path = tmp_path / "theirs.h5"
    path.write_bytes(source.work.features.read_bytes())
    with h5py.File(path, "a") as file:
        spoil(file["z.png"])
    with pytest.raises(UserError, match=rf"theirs\.h5: {words}"):
        import_features(RECIPE, path, source.survey.root, tmp_path / "run")


SPOILED_MATCHES = {
    "beyond": (lambda g: g["matches0"].__setitem__(3, 30000), "beyond the keypoints"),
    "wrapped": (lambda g: replace(g, "matches0", np.full(len(g["matches0"]), -25536, np.int16)), "wrapped round"),
    "length": (lambda g: replace(g, "matches0", np.zeros(7, np.int16)), r"matches0 has shape \(7,\)"),
    "missing": (lambda g: g.__delitem__("matches0"), "has no dataset matches0"),
    "group": (lambda g: replace(g, "matches0", None), "matches0 is an empty group"),
    "words": (lambda g: replace(g, "matches0", "none"), "matches0 holds no numbers"),
    "scores": (lambda g: replace(g, "matching_scores0", np.zeros(3)), r"matching_scores0 has shape \(3,\)"),
    "fractions": (lambda g: replace(g, "matches0", g["matches0"][()].astype(np.float32)), "expected integers"),
}  # fmt: skip


@pytest.mark.parametrize("case", SPOILED_MATCHES)
def test_spoiled_matches(source, case, tmp_path):
    spoil, words = SPOILED_MATCHES[case]
    path = tmp_path / "theirs.h5"
    path.write_bytes(source.work.matches.read_bytes())
    with h5py.File(path, "a") as file:
        spoil(file["0001.png/z.png"])
    with pytest.raises(UserError, match=rf"theirs\.h5: 0001\.png \+ z\.png.*{words}"):
        import_features(RECIPE, source.work.features, source.survey.root, tmp_path / "run", matches=path)


@pytest.fixture(scope="module")
def imc_folder(first, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("imc")
    export(first.output, "imc", folder / "out", scene="d/s")
    return folder / "out" / "d" / "s"


# The file, its entry, what it becomes, and what is said; "lost" takes the entry away.
SPOILED_IMC = [
    ("keypoints", "z", None, r"keypoints\.h5: z is an empty group"),
    ("keypoints", "z", np.zeros((5, 3)), r"keypoints\.h5: z has shape \(5, 3\)"),
    ("keypoints", "z", np.full((5, 2), np.nan), r"scales\.h5: z has shape"),
    ("descriptors", "z", "lost", r"descriptors\.h5: has no entry z, but keypoints\.h5 has"),
    ("descriptors", "z", np.zeros(4), r"descriptors\.h5: z has shape \(4,\)"),
    ("descriptors", "z", np.zeros((3, 64)), r"keypoints\.h5: z: \d+ keypoints, but descriptors for 3"),
    ("scales", "z", np.zeros(3), r"scales\.h5: z has shape \(3,\)"),
    ("angles", "z", "none", r"angles\.h5: z holds no numbers"),
    ("matches", "z-0001", np.zeros((3, 2), int), r"matches\.h5: z-0001 has shape \(3, 2\)"),
    ("matches", "z-0001", None, r"matches\.h5: z-0001 is an empty group"),
    ("matches", "z-0001", np.zeros((2, 1)), r"matches\.h5: z-0001: match indices are float64"),
    ("matches", "z-0001", np.full((2, 1), 9999), r"matches\.h5: z-0001: matches point beyond the keypoints"),
    ("matches", "0001-z", np.zeros((2, 1), int), r"matches\.h5: 0001-z: the larger name comes first"),
    ("matches", "z-other", np.zeros((2, 1), int), r"matches\.h5: z-other is not a pair"),
]


@pytest.mark.parametrize(("file", "entry", "value", "words"), SPOILED_IMC)
def test_spoiled_imc_files(source, imc_folder, file, entry, value, words, tmp_path):
    folder = tmp_path / "imc"
    shutil.copytree(imc_folder, folder)
    with h5py.File(folder / f"{file}.h5", "a") as content:
        if isinstance(value, str) and value == "lost":
            del content[entry]
        else:
            replace(content, entry, value)
    matches = folder / "matches.h5" if file == "matches" else None
    with pytest.raises(UserError, match=words):
        import_features(RECIPE, folder, source.survey.root, tmp_path / "run", matches=matches)


def test_files_that_are_something_else(source, tmp_path, capsys):
    (tmp_path / "text.h5").write_text("no HDF5")
    with h5py.File(tmp_path / "empty.h5", "w"):
        pass
    with h5py.File(tmp_path / "strangers.h5", "w") as file:
        file["other.jpg/keypoints"] = np.zeros((3, 2))
    for name, words in (
        ("absent.h5", "no such file"),
        ("text.h5", "not an HDF5 file"),
        ("empty.h5", "holds nothing"),
        ("strangers.h5", "features of other photographs (holds other.jpg"),
    ):
        arguments = ["--features", str(tmp_path / name), "--images", str(source.survey.root)]
        assert main([*arguments, "--output", str(tmp_path / f"out-{name}")]) == 2
        assert words in capsys.readouterr().err
