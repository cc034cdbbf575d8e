"""The installed command `desdis-reconstruct`.

The application (`run_reconstruction.py`, `pipeline/`, `datasets/`, `configs/`) is no part of the library. A wheel
carries it in this folder, an editable installation leaves it in the checkout; either way it can be imported only after
this command has put its place first on sys.path, so that other packages of the same names are left in peace.
"""

import sys
from pathlib import Path


def application_root() -> Path:
    """The folder that holds run_reconstruction.py: this one in a wheel, the checkout otherwise."""
    here = Path(__file__).resolve().parent
    return here if (here / "run_reconstruction.py").is_file() else here.parents[1]


def main() -> int:
    """Runs run_reconstruction.py with the command line's arguments and returns its exit status."""
    sys.path.insert(0, str(application_root()))
    from run_reconstruction import main as run  # pyright: ignore[reportMissingImports]

    return run()
