import json
from pathlib import Path

import numpy as np
import pytest

from desdis.errors import UserError
from pipeline.workspace import Workspace, return_memory, write_atomically

OPTIONS = {"extract": {"detector.name": "dog"}, "match": {"matcher.max_ratio": 0.9}, "verify": {"seed": 0}}


def finished(tmp_path):
    work = Workspace(tmp_path / "out")
    work.plan(OPTIONS, overwrite=False)
    for stage, path in (("extract", work.features), ("match", work.matches), ("verify", work.database)):
        with work.stage(stage):
            path.write_text(stage)
    return Workspace(tmp_path / "out")


def test_what_is_done_stays_done(tmp_path):
    work = finished(tmp_path)
    work.plan(OPTIONS, overwrite=False)
    assert work.done("extract") and work.done("match")
    work.matches.unlink()
    assert not work.done("match")
    assert work.timings()["extract"]["seconds"] >= 0 and work.timings()["extract"]["peak_memory_mib"] > 1


def test_a_changed_option_is_named(tmp_path):
    work = finished(tmp_path)
    with pytest.raises(UserError, match=r"matcher\.max_ratio: 0\.9 -> 0\.8.*--overwrite"):
        work.plan({**OPTIONS, "match": {"matcher.max_ratio": 0.8}}, overwrite=False)
    assert work.matches.exists()


def test_overwrite_redoes_that_stage_and_those_below(tmp_path):
    work = finished(tmp_path)
    work.plan({**OPTIONS, "match": {"matcher.max_ratio": 0.8}}, overwrite=True)
    assert work.features.exists() and work.done("extract")
    assert not work.matches.exists() and not work.database.exists() and not work.done("verify")


def test_a_foreign_folder_is_left_alone(tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.docx").write_text("years of work")
    with pytest.raises(UserError, match=r"thesis\.docx"):
        Workspace(tmp_path / "out")


def test_a_stage_that_fails_is_not_done(tmp_path):
    work = Workspace(tmp_path / "out")
    work.plan(OPTIONS, overwrite=False)
    with pytest.raises(RuntimeError), work.stage("extract"):
        work.features.write_text("half")
        raise RuntimeError
    assert not Workspace(tmp_path / "out").done("extract")


def test_write_atomically(tmp_path):
    write_atomically(tmp_path / "x.json", json.dumps({"a": 1}))
    assert (tmp_path / "x.json").read_text() == '{"a": 1}' and len(list(tmp_path.iterdir())) == 1


def test_memory_in_holes_is_given_back():
    resident = Path("/proc/self/statm")
    if not resident.exists():
        pytest.skip("no /proc here")
    rows = [np.ones(2000) for _ in range(6000)]  # too small for pages of their own
    del rows[::2]
    held = int(resident.read_text().split()[1])
    return_memory()
    assert int(resident.read_text().split()[1]) <= held - 4000  # of the 11,700 pages freed
    del rows
