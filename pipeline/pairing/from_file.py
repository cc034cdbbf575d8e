"""Pairs from a text file: two names a line, as hloc and COLMAP write them. Lines starting with # are comments."""

from pathlib import Path

from desdis.errors import UserError


def from_file(names: list[str], path: Path | None) -> list[tuple[str, str]]:
    """Pairs in the file's order without repeats. Names with spaces are understood where only one split fits.

    Raises UserError for a missing file, a line that is not two known names, and a photograph paired with itself.
    """
    if path is None:
        raise UserError("pairs.name=from_file needs a list: give pairs.file=FILE")
    if not path.is_file():
        raise UserError(f"{path}: the pair list does not exist; give pairs.file=FILE")
    known = set(names)
    pairs: dict[frozenset[str], tuple[str, str]] = {}
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        a, b = _split(line.strip(), known) or _fail(path, number, line)
        if a == b:
            raise UserError(f"{path}, line {number}: {a} is paired with itself; remove the line")
        pairs.setdefault(frozenset((a, b)), (a, b))
    return list(pairs.values())


def _split(line: str, known: set[str]) -> tuple[str, str] | None:
    words = line.split(" ")
    splits = [(" ".join(words[:k]), " ".join(words[k:])) for k in range(1, len(words))]
    fitting = [pair for pair in splits if pair[0] in known and pair[1] in known]
    return fitting[0] if len(fitting) == 1 else None


def _fail(path: Path, number: int, line: str) -> tuple[str, str]:
    raise UserError(f"{path}, line {number}: not two names of used photographs: {line.strip()!r}")
