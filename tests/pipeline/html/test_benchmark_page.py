"""The benchmark's page: what is bold, what is said, what cannot break out."""

import json
import re

import pytest

from pipeline.html import benchmark
from tests.pipeline.html.benchmark_result import METHODS, benchmark_result


@pytest.mark.parametrize(
    ("values", "digits", "higher", "expected"),
    [
        ({"a": 0.91, "b": 0.9}, 2, True, {"a"}),
        ({"a": 0.9104, "b": 0.9096}, 3, True, {"a", "b"}),
        ({"a": 0.2, "b": 0.1, "c": None}, 1, False, {"b"}),
        ({"a": 2.0, "b": 1.0}, 0, None, set()),
        ({"a": 2.0, "b": None}, 0, True, set()),
    ],
)
def test_best_is_best_as_printed(values, digits, higher, expected):
    assert benchmark.best(values, digits, higher) == expected


def _rows(text: str) -> list[list[tuple[bool, str]]]:
    """Cells of every table row that has numbers: is it bold, and its text."""
    rows = [re.findall(r'<td class="n([^"]*)">([^<]*)', row) for row in re.findall(r"<tr>(.*?)</tr>", text, re.DOTALL)]
    return [[("best" in style, value) for style, value in row] for row in rows if row]


def test_the_best_are_bold_and_failures_are_counted(tmp_path):
    text = benchmark.write_benchmark_html(tmp_path, benchmark_result()).read_text(encoding="utf-8")
    rows = _rows(text)
    assert rows[:3] == [[(False, "0.810")], [(True, "0.910")], [(False, "–")]]  # means over scenes
    wall = rows[3:6]
    assert [row[0] for row in wall] == [(False, "0.810"), (True, "0.910"), (True, "0.910")]
    assert [row[1] for row in wall] == [(False, "0.500"), (True, "0.400"), (False, "0.700")]
    assert [row[-1][1] for row in wall] == ["0", "0", "1"]
    for said in ("seed 1: stopped &lt;b&gt;after", "there is no aliked-n16.pth", "a note", "seed 2 not run"):
        assert said in text


def test_no_name_breaks_out(tmp_path):
    text = benchmark.write_benchmark_html(tmp_path, benchmark_result()).read_text(encoding="utf-8")
    assert "<script>window" not in text and "<i>scenes" not in text
    assert len(re.findall(r"<script[ >]", text)) == len(re.findall(r"</script>", text)) == 3
    data = re.search(r'id="data">(.*?)</script>', text, re.DOTALL)
    assert data
    figures = json.loads(data[1])["figures"]
    assert {"time-maa_10", "pose_curve", "difference-maa_10", "seconds"} == set(figures)
    names = {trace["name"] for trace in figures["pose_curve"]["data"]}
    assert names == {METHODS[0], METHODS[1], "&lt;script&gt;wind…en=1&lt;/script&gt;"}


def test_differences_keep_their_intervals(tmp_path):
    result = benchmark_result()
    trace = benchmark._differences(result, "maa_10")["data"][0]
    assert trace["x"] == [0.1] * 3 and trace["error_x"]["array"] == [0.02] * 3
    assert trace["error_x"]["arrayminus"] == [0.05] * 3
    assert len(set(trace["y"])) == 3  # a line for each scene and one for all


def test_command(tmp_path, capsys):
    path = tmp_path / "results.json"
    path.write_text(json.dumps(benchmark_result()))
    assert benchmark.main([str(path)]) == 0
    assert (tmp_path / "benchmark.html").is_file() and str(tmp_path) in capsys.readouterr().out
    assert benchmark.main([str(tmp_path / "none.json")]) == 2
    assert "cannot be read" in capsys.readouterr().err


def test_names_of_points_that_lie_close_are_put_apart():
    points = [(100, 100), (102, 101), (104, 99), (400, 300)]
    positions = benchmark.label_positions(points, ["desdis-8", "desdis-16", "sift", "far"])
    assert len(set(positions[:3])) == 3
    assert positions[3] == positions[0] == "top center"
