"""Stage 3: which photographs are matched. In: the survey. Out: pairs.txt, "name0 name1" a line (hloc, COLMAP)."""

from datasets.cameras import Reference
from desdis.errors import UserError
from pipeline.files.matches import key
from pipeline.pairing import PAIRINGS, Pair, PairsOptions
from pipeline.types import Survey
from pipeline.workspace import Workspace, write_atomically


def pair(survey: Survey, options: PairsOptions, reference: Reference | None, work: Workspace) -> list[Pair]:
    """The pairs to match. Raises UserError where there are none, or where two would share a name in matches.h5."""
    names = [photo.name for photo in survey.photos]
    pairs = PAIRINGS[options.name](names, options, reference)
    if not pairs:
        raise UserError(f"pairs.name={options.name} gives no pair of the {len(names)} photographs; choose another")
    seen: dict[str, Pair] = {}
    for a, b in pairs:
        other = seen.setdefault(key(a, b), (a, b))
        if other != (a, b):
            raise UserError(
                f"{a} + {b} and {other[0]} + {other[1]} have one name in matches.h5 (hloc turns / into -): rename one"
            )
    write_atomically(work.pairs, "\n".join(f"{a} {b}" for a, b in pairs))
    return pairs
