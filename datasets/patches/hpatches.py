"""HPatches (Balntas et al., CVPR 2017): strips, splits, tasks, and the three scores as its Python code has them.

A sequence is a folder of 16 grey PNG strips: `ref`, `e1`..`e5` (easy), `h1`..`h5` (hard), `t1`..`t5` (tough), 65 pixels
wide and 65 N high; patch k is the rows 65k .. 65k + 64, the same place in every strip. `i_*` change in light, `v_*` in
viewpoint. Descriptors of others are `<descriptor>/<sequence>/<strip>.csv`, one row a patch.

    python -m datasets.patches.hpatches SEQUENCES --tasks TASKS desdis-32 official/desdis-32 FOLDER_OF_CSV...

scores weights (by name or file) and folders of descriptors. TASKS is the folder `tasks` of the benchmark's repository.
"""

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from desdis.errors import UserError, command
from desdis.metrics import average_precision, matching, roc_area

SIDE = 65
LEVELS = {"easy": "e", "hard": "h", "tough": "t"}
STRIPS = ("ref", *(f"{level}{k}" for level in LEVELS.values() for k in range(1, 6)))
# What the benchmark's splits test on; the other 76 of the 116 sequences may be trained on. `a` is the usual one.
SPLIT_TESTS = {
    "a": """
        i_ajuntament i_autannes i_bologna i_books i_bridger i_brooklyn i_fog i_fruits i_kurhaus i_lionnight
        i_nijmegen i_porta i_resort i_salon i_santuario i_table i_tools i_troulos i_whitebuilding i_zion
        v_abstract v_azzola v_bees v_birdwoman v_busstop v_coffeehouse v_courses v_eastsouth v_feast v_fest
        v_man v_pomegranate v_soldiers v_strand v_tabletop v_talent v_underground v_woman v_yard v_yuri
    """,
    "b": """
        i_autannes i_bridger i_castle i_chestnuts i_dome i_duda i_fog i_fruits i_greenhouse i_kions i_kurhaus
        i_lionday i_melon i_partyfood i_pencils i_porta i_resort i_school i_ski i_village v_adam v_apprentices
        v_astronautis v_bees v_bip v_birdwoman v_charing v_churchill v_colors v_feast v_graffiti v_laptop
        v_london v_posters v_sunseason v_there v_underground v_war v_woman v_yard
    """,
    "c": """
        i_bologna i_boutique i_castle i_crownnight i_dc i_fog i_kions i_leuven i_londonbridge i_melon i_nijmegen
        i_parking i_partyfood i_pool i_ski i_smurf i_steps i_table i_tools i_troulos v_adam v_artisans v_azzola
        v_bees v_blueprint v_busstop v_coffeehouse v_dirtywall v_feast v_gardens v_graffiti v_machines v_man
        v_maskedman v_pomegranate v_talent v_tempera v_war v_weapons v_wounded
    """,
}

Descriptors = Mapping[str, Mapping[str, np.ndarray]]  # sequence -> strip -> (N, D)


def split_test(name: str, sequences: Sequence[str]) -> list[str]:
    """Those of `sequences` that the split tests on: `a` (the usual), `b`, `c`, `illum`, `view`, or `full`."""
    keep = {
        **{split: lambda s, tests=tests: s in tests.split() for split, tests in SPLIT_TESTS.items()},
        "illum": lambda s: s.startswith("i_"),
        "view": lambda s: s.startswith("v_"),
        "full": lambda s: True,
    }
    if name not in keep:
        raise UserError(f"HPatches has no split {name!r} here; choose from {', '.join(keep)}")
    return [s for s in sorted(sequences) if keep[name](s)]


def read_sequence(folder: Path) -> dict[str, np.ndarray]:
    """Strip name -> (N, 65, 65) uint8. Raises UserError where a strip is absent, not 65 wide, or of another length."""
    import cv2

    strips = {}
    for name in STRIPS:
        picture = cv2.imread(str(folder / f"{name}.png"), cv2.IMREAD_GRAYSCALE)
        if picture is None or picture.shape[1] != SIDE or picture.shape[0] % SIDE:
            raise UserError(f"{folder}/{name}.png is absent or no strip of 65x65 patches; unpack HPatches again")
        strips[name] = picture.reshape(-1, SIDE, SIDE)
        if len(strips[name]) != len(strips["ref"]):
            raise UserError(f"{folder}/{name}.png has {len(strips[name])} patches, ref.png {len(strips['ref'])}")
    return strips


def write_sequence(folder: Path, strips: Mapping[str, np.ndarray]) -> None:
    """The other way: strips (N, 65, 65) uint8 by name."""
    import cv2

    folder.mkdir(parents=True, exist_ok=True)
    for name, patches in strips.items():
        cv2.imwrite(str(folder / f"{name}.png"), np.ascontiguousarray(patches.reshape(-1, SIDE)))


def read_descriptors(folder: Path, sequences: Sequence[str], delimiter: str = ",") -> dict[str, dict[str, np.ndarray]]:
    """sequence -> strip -> (N, D) float32 of a descriptor's csv folder. Raises UserError."""
    result: dict[str, dict[str, np.ndarray]] = {}
    for sequence in sequences:
        result[sequence] = {}
        for strip in STRIPS:
            path = folder / sequence / f"{strip}.csv"
            try:
                result[sequence][strip] = np.loadtxt(path, np.float32, delimiter=delimiter, ndmin=2)
            except (OSError, ValueError) as error:
                raise UserError(f"{path} cannot be read ({error}); a descriptor has one csv a strip") from error
    return result


def describe_sequences(weights: str, folder: Path, sequences: Sequence[str]) -> dict[str, dict[str, np.ndarray]]:
    """sequence -> strip -> (N, 128) float32 by desdis weights (a name or a file), of patches made 32x32. UserError."""
    import cv2

    import desdis

    describer = desdis.load(weights)
    return {
        sequence: {
            strip: describer.describe_patches(
                np.stack([cv2.resize(patch, (32, 32), interpolation=cv2.INTER_AREA) for patch in patches])
            )
            for strip, patches in read_sequence(folder / sequence).items()
        }
        for sequence in sequences
    }


def strip_of(image: int, level: str) -> str:
    """The strip of a task file's image number: 0 is `ref`, k is `<level>k`."""
    return "ref" if image == 0 else f"{LEVELS[level]}{image}"


def read_task(path: Path) -> list[tuple[str | int, ...]]:
    """Rows of a task file: `s1,t1,idx1,s2,t2,idx2` (verification) or `s,idx` (retrieval), with a header line."""
    try:
        lines = path.read_text().split("\n")[1:]
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error})") from error
    rows = [line.split(",") for line in lines if line.strip()]
    return [tuple(int(cell) if cell.strip().isdigit() else cell.strip() for cell in row) for row in rows]


def verification(
    descriptors: Descriptors, positives: Sequence[tuple], negatives: Sequence[tuple], level: str
) -> tuple[float, float]:
    """(area under ROC over all pairs, average precision with a fifth of the positives) of one level and one kind of
    negatives. Pairs are rows (s1, t1, idx1, s2, t2, idx2). Negatives come first where distances tie."""

    def distances(rows: Sequence[tuple]) -> np.ndarray:
        a = np.array([descriptors[s][strip_of(t, level)][i] for s, t, i, _, _, _ in rows], np.float64)
        b = np.array([descriptors[s][strip_of(t, level)][i] for _, _, _, s, t, i in rows], np.float64)
        return np.linalg.norm(a - b, axis=1)

    far, near = distances(negatives), distances(positives)
    some = near[: int(0.2 * len(near))]
    balanced = roc_area(np.concatenate([far, near]), np.repeat([False, True], [len(far), len(near)]))
    imbalanced = average_precision(np.concatenate([far, some]), np.repeat([False, True], [len(far), len(some)]))
    return balanced, imbalanced


def matching_score(descriptors: Descriptors, sequences: Sequence[str]) -> dict[str, float]:
    """Mean average precision by level over sequences and k = 1..5, and their mean as `mean`."""
    scores = {}
    for level, letter in LEVELS.items():
        values = []
        for sequence in sequences:
            ref = descriptors[sequence]["ref"]
            for k in range(1, 6):
                values.append(matching(_distances(ref, descriptors[sequence][f"{letter}{k}"]))[0])
        scores[level] = float(np.mean(values))
    return scores | {"mean": float(np.mean(list(scores.values())))}


def retrieval_score(
    descriptors: Descriptors,
    queries: Sequence[tuple[str, int]],
    distractors: Sequence[tuple[str, int]],
    level: str,
    sizes: Sequence[int] = (100, 500, 1000, 5000, 10000, 15000, 20000),
) -> dict[int, float]:
    """Mean average precision by size of the pool: a query's five positives, then distractors of other sequences, in
    file order. Recall counts five positives whatever the pool holds."""
    pool = np.array([descriptors[s]["ref"][i] for s, i in distractors], np.float64)
    origin = np.array([s for s, _ in distractors])
    values: dict[int, list[float]] = {size: [] for size in sizes}
    for sequence, index in queries:
        query = descriptors[sequence]["ref"][index].astype(np.float64)
        near = [descriptors[sequence][strip_of(k, level)][index] for k in range(1, 6)]
        distance = np.linalg.norm(np.concatenate([near, pool[origin != sequence]]) - query, axis=1)
        for size in sizes:
            part = distance[:size]
            values[size].append(average_precision(part, np.arange(len(part)) < 5, 5))
    return {size: float(np.mean(v)) for size, v in values.items()}


def scores(descriptors: Descriptors, tasks: Path, split: str) -> dict[str, float]:
    """Mean average precision of the three tasks: `verification` (mean of negatives from the same and from other
    sequences, a fifth of the positives), `matching`, `retrieval` (the largest pool), each by level and as mean."""

    def task(name: str) -> list[tuple]:
        return read_task(tasks / f"{name}_split-{split}.csv")

    positives = task("verif_pos")
    negatives = [task("verif_neg_intra"), task("verif_neg_inter")]
    queries, distractors = task("retr_queries"), task("retr_distractors")
    found = {f"matching {level}": value for level, value in matching_score(descriptors, sorted(descriptors)).items()}
    for level in LEVELS:
        found[f"verification {level}"] = float(
            np.mean([verification(descriptors, positives, kind, level)[1] for kind in negatives])
        )
        found[f"retrieval {level}"] = [*retrieval_score(descriptors, queries, distractors, level).values()][-1]
    for name in ("verification", "retrieval"):
        found[f"{name} mean"] = float(np.mean([found[f"{name} {level}"] for level in LEVELS]))
    return dict(sorted(found.items()))


def _distances(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    a, b = a.astype(np.float64), b.astype(np.float64)
    squared = (a**2).sum(axis=1)[:, None] + (b**2).sum(axis=1)[None] - 2 * a @ b.T
    return np.sqrt(np.maximum(squared, 0))


@command
def main(arguments: list[str] | None = None) -> int:
    """The command line; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m datasets.patches.hpatches", description="HPatches: verification, matching and retrieval."
    )
    parser.add_argument("sequences", type=Path, help="folder of sequences (hpatches-release)")
    parser.add_argument("methods", nargs="+", help="weights by name or file, or a folder of SEQUENCE/STRIP.csv")
    parser.add_argument("--tasks", type=Path, required=True, help="folder of the benchmark's task files")
    parser.add_argument("--split", default="a", help="a, b, c, illum, view or full (a)")
    options = parser.parse_args(arguments)
    if not options.sequences.is_dir():
        raise UserError(f"{options.sequences} is no folder; give that of the sequences")
    names = split_test(options.split, sorted(path.name for path in options.sequences.iterdir() if path.is_dir()))
    if not names:
        raise UserError(f"{options.sequences} holds no sequence of split {options.split}; give that of the sequences")
    for method in options.methods:
        if Path(method).is_dir():
            descriptors = read_descriptors(Path(method), names)
        else:
            descriptors = describe_sequences(method, options.sequences, names)
        print(
            json.dumps({"method": method, "split": options.split, **scores(descriptors, options.tasks, options.split)})
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
