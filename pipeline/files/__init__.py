"""The HDF5 files. Each layout is known to one module here and nowhere else."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import h5py

FORMAT = 1


@contextmanager
def appending(path: Path, manifest: dict) -> Iterator[h5py.File]:
    """The file, opened for appending whole items. A file that does not open (torn by a crash) is begun anew."""
    try:
        file = h5py.File(path, "a")
    except OSError:
        path.rename(path.with_suffix(".torn"))
        file = h5py.File(path, "w")
    with file:
        file.attrs["format"] = FORMAT
        file.attrs["manifest"] = json.dumps(manifest, sort_keys=True)
        file.flush()
        yield file
