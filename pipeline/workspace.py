"""The run folder: where each thing lies, what has been done, with which options, and how long it took.

`manifest.json` holds for each stage a hash of its options and of everything upstream. Running again skips what is
done, finishes what is not, and stops, naming the key, where an option changed (unless `overwrite`).
"""

import ctypes
import hashlib
import json
import os
import resource
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from desdis.errors import UserError

FORMAT = 1
T = TypeVar("T")
# Stages in order, and the outputs that each one owns.
STAGES: dict[str, tuple[str, ...]] = {
    "survey": (),
    "extract": ("features.h5",),
    "pair": ("pairs.txt",),
    "orient": ("orientation.json",),
    "match": ("matches.h5",),
    "verify": ("database.db", "database.db-wal", "database.db-shm"),
    "reconstruct": ("sparse", "points.ply", "mapping.json"),
    "evaluate": (),
    "report": ("report.json", "report.html"),
}


class Workspace:
    """One output folder. Everything that a stage reads or writes is named here."""

    def __init__(self, output: Path):
        self.output = output
        output.mkdir(parents=True, exist_ok=True)
        self.features = output / "features.h5"
        self.pairs = output / "pairs.txt"
        self.orientation = output / "orientation.json"
        self.matches = output / "matches.h5"
        self.database = output / "database.db"
        self.sparse = output / "sparse"
        self.mapping = output / "mapping.json"
        self.points = output / "points.ply"
        self.report = output / "report.json"
        self.log = output / "run.log"
        self.recipe = output / "recipe.yaml"
        self.frames = output / "frames"  # stills of a video
        self._manifest_path = output / "manifest.json"
        self.manifest = self._read_manifest()
        self._upstream = ""

    def _read_manifest(self) -> dict[str, Any]:
        if not self._manifest_path.exists():
            foreign = [p.name for p in self.output.iterdir() if p.name not in {"run.log", "logs", "frames"}]
            if foreign:
                raise UserError(
                    f"{self.output}: the folder is not empty and was not made by this program "
                    f"({foreign[0]}); give another --output"
                )
            return {"format": FORMAT, "stages": {}}
        manifest = json.loads(self._manifest_path.read_text())
        if manifest.get("format") != FORMAT:
            raise UserError(f"{self.output}: made by another version of the program; give another --output")
        return manifest

    def plan(self, options: dict[str, dict[str, Any]], overwrite: bool) -> None:
        """Compare each stage's options with those it ran with, before anything runs.

        Raises UserError that names the first differing key, unless `overwrite`: then that stage's outputs and those
        of every stage below are removed, and nothing above.
        """
        stale = False
        upstream = ""
        for stage in STAGES:
            wanted = json.loads(json.dumps(options.get(stage, {}), default=str))
            upstream = _hash([upstream, stage, wanted])
            entry = self.manifest["stages"].get(stage)
            if entry and entry["hash"] != upstream and not stale:
                changes = "; ".join(_differences(entry["options"], wanted)) or "something upstream"
                if not overwrite:
                    raise UserError(
                        f"{self.output}: made with other options ({changes}); "
                        f"use --overwrite to redo {stage} and what follows, or give another --output"
                    )
                stale = True
            if stale:
                self._remove(stage)
                entry = None
            if not entry:
                self.manifest["stages"][stage] = {"options": wanted, "hash": upstream, "done": False}
        self._save()

    def _remove(self, stage: str) -> None:
        for name in STAGES[stage]:
            path = self.output / name
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
        self.manifest["stages"].pop(stage, None)

    def provenance(self, stage: str) -> dict[str, Any]:
        """Options and hash of a stage (with all upstream), to be written into its files."""
        entry = self.manifest["stages"][stage]
        return {"stage": stage, "options": entry["options"], "hash": entry["hash"]}

    def done(self, stage: str) -> bool:
        """Whether the stage finished in an earlier run and its outputs are still there."""
        entry = self.manifest["stages"][stage]
        needed = [n for n in STAGES[stage] if not n.endswith(("-wal", "-shm", ".html", ".ply"))]
        return bool(entry["done"]) and all((self.output / name).exists() for name in needed)

    @staticmethod
    def measure(function: Callable[[], T]) -> tuple[T, dict[str, float]]:
        """The function's result with its seconds and peak memory, for a stage that runs before the plan is known."""
        reset_peak_memory()
        start = time.perf_counter()
        result = function()
        return result, {"seconds": time.perf_counter() - start, "peak_memory_mib": peak_memory_mib()}

    def record(self, name: str, cost: dict[str, float]) -> None:
        """Note a stage as done at that cost."""
        self.manifest["stages"][name].update(cost, done=True)
        self._save()

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Run a stage: seconds and peak memory are added to the manifest, `done` is set when it returns."""
        entry = self.manifest["stages"][name]
        reset_peak_memory()
        start = time.perf_counter()
        try:
            yield
            entry["done"] = True
        finally:
            again = entry.get("seconds", 0.0) if name in ("extract", "match") else 0.0  # a resumed stage adds up
            entry["seconds"] = again + time.perf_counter() - start
            entry["peak_memory_mib"] = max(peak_memory_mib(), entry.get("peak_memory_mib", 0.0))
            self._save()

    def timings(self) -> dict[str, dict[str, float]]:
        """Seconds and peak memory by stage."""
        keys = ("seconds", "peak_memory_mib")
        entries = {name: self.manifest["stages"][name] for name in STAGES}
        return {
            name: {key: round(entry[key], 3) for key in keys} for name, entry in entries.items() if "seconds" in entry
        }

    def _save(self) -> None:
        write_atomically(self._manifest_path, json.dumps(self.manifest, indent=1, sort_keys=True))


def write_atomically(path: Path, text: str) -> None:
    """Write a whole text file or nothing: a kill leaves the old one."""
    scratch = path.with_name(path.name + ".tmp")
    with open(scratch, "w", encoding="utf-8", errors="surrogateescape") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.replace(scratch, path)


def reset_peak_memory() -> None:
    """Begin a new peak where the system allows it (Linux); elsewhere the peak is that of the whole process."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        pass


def return_memory() -> None:
    """Give free memory back to the system. Arrays of ever new sizes leave glibc with holes that it keeps, some MiB for
    each photograph; other systems' allocators see to it themselves."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def peak_memory_mib() -> float:
    """Peak resident memory of this process since the last reset, in MiB."""
    try:
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM"):
                return int(line.split()[1]) / 1024
    except OSError:
        pass
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1024 if os.uname().sysname == "Linux" else peak / 2**20


def _hash(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode(errors="surrogateescape")).hexdigest()


def _differences(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    keys = sorted(set(old) | set(new))
    return [f"{key}: {old.get(key)!r} -> {new.get(key)!r}" for key in keys if old.get(key) != new.get(key)]
