"""Contents and figures into one self-contained page (jinja2 with escaping; plotly.js embedded).

The page may run its own two scripts and nothing else: a Content-Security-Policy names them by hash and allows no
connection, so that even a name that slipped through an escape could neither run nor call out.
"""

import json
from base64 import b64encode
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.html import figures, pictures, scene
from pipeline.html.contents import Contents, SparseModel, read_contents
from pipeline.html.render import Eye, best_eye, draw_model

_TEMPLATES = Path(__file__).parent / "templates"


def reconstruction_page(output: Path, report: dict[str, Any]) -> str:
    """The HTML of one reconstruction."""
    contents = read_contents(output, report)
    accuracy = report.get("accuracy") or None
    drawn = _figures(contents, report, accuracy)
    packed = scene.packed(contents)
    still = None
    if packed and contents.model:
        eye = best_eye(contents.model, 1180, 640)
        still = _still(contents.model, eye)
        packed["eye"] = {"position": eye.position.round(4).tolist(), "target": eye.target.round(4).tolist()}
    links = ["report.json", "recipe.yaml", "run.log", "points.ply", "sparse/0", "features.h5", "matches.h5",
             "database.db"]  # fmt: skip
    return render(
        "report.html.j2",
        {"figures": drawn, "scene": packed},
        report=report,
        accuracy=accuracy,
        title=_title(contents, output),
        contents=contents,
        drawn=drawn,
        scene=packed,
        still=still,
        cards=pictures.gallery(contents),
        pairs=pictures.telling_pairs(contents),
        links=[name for name in links if (output / name).exists()],
        verdict=verdict(report, accuracy),
        pair_errors=_by_pair(accuracy["pair_errors"]) if accuracy else {},
    )


def render(template: str, data: dict[str, Any], **values: Any) -> str:
    """A page from a template; `data` is what its script reads."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markupsafe import Markup
    from plotly.offline import get_plotlyjs

    scripts = [get_plotlyjs(), (_TEMPLATES / "report.js").read_text(encoding="utf-8")]
    hashes = " ".join(f"'sha256-{b64encode(sha256(s.encode()).digest()).decode()}'" for s in scripts)
    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True,
    )  # fmt: skip
    environment.filters |= {"seconds": seconds, "count": lambda v: f"{v:,}".replace(",", "\u2009")}
    return environment.get_template(template).render(
        scripts=[Markup(script) for script in scripts],
        policy=f"default-src 'none'; script-src {hashes}; style-src 'unsafe-inline'; img-src data: blob:; "
        "base-uri 'none'; form-action 'none'",
        style=Markup((_TEMPLATES / "report.css").read_text(encoding="utf-8")),
        data=Markup(safe_json(data)),
        made=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        **values,
    )


def safe_json(value: Any) -> str:
    """JSON that may stand inside <script>: nothing in it can end the element or open a comment."""
    text = json.dumps(value, separators=(",", ":"), allow_nan=False)
    return text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")


def seconds(value: float) -> str:
    """A duration to read: 0.4 s, 12.3 s, 3 min 20 s, 2 h 05 min."""
    if value < 99.95:
        return f"{value:.1f} s"
    minutes, rest = divmod(round(value), 60)
    return f"{minutes} min {rest:02d} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"


def verdict(report: dict[str, Any], accuracy: dict[str, Any] | None) -> str:
    """What came out, in one or two sentences."""
    models, used = report.get("models", []), report.get("images", {}).get("used", 0)
    if not models:
        return "Nothing could be reconstructed from these photographs; the reasons are listed below."
    first = models[0]
    count = first["registered_images"]
    text = f"All {used} photographs are" if count == used else f"{count} of {used} photographs are"
    text += f" in one model of {first['points3D']:,} points".replace(",", "\u2009")
    if len(models) > 1:
        text += f"; {len(models) - 1} smaller model{'s' if len(models) > 2 else ''} beside it"
    text += "."
    if accuracy:
        text += f" Against the reference the median pose error is {accuracy['median_pose_error_deg']:.3f}°"
        text += f" and the mAA(10°) {accuracy['maa_10']:.3f}."
    return text


def _figures(contents: Contents, report: dict[str, Any], accuracy: dict[str, Any] | None) -> dict[str, Any]:
    """Figures by the id of the element they are drawn in."""
    model, stages = contents.model, report.get("stages", {})
    found: dict[str, Any] = {"keypoints": figures.keypoints(contents)}
    if contents.verified:
        found["matrix"] = figures.match_matrix(contents)
        found["graph"] = figures.view_graph(contents, report.get("view_graph", {}).get("bridges", []))
    if model and model.views:
        names = list(model.views)
        errors = [model.views[n].errors for n in names]
        means = [float(e.mean()) if len(e) else 0.0 for e in errors]
        found["residuals"] = figures.bars(names, {"mean residual": means}, "pixels", "%{y:.3f} px")
        found["sizes"] = figures.residual_sizes(contents)
        found["plane"] = figures.residual_plane(contents)
        found["tracks"] = figures.tracks(contents)
    if accuracy:
        errors = accuracy["pair_errors"]
        names = sorted({name for error in errors for name in error["names"]})
        found["recall"] = figures.recall({"pairs": [error["error_deg"] for error in errors]})
        found["pose_matrix"] = figures.pose_matrix(names, errors)
        if accuracy["image_errors"]:
            named = [error["name"] for error in accuracy["image_errors"]]
            centres = [error["centre"] for error in accuracy["image_errors"]]
            turns = [error["rotation_deg"] for error in accuracy["image_errors"]]
            found["centres"] = figures.bars(named, {"centre": centres}, "reference units", "%{y:.4g}")
            found["rotations"] = figures.bars(named, {"rotation": turns}, "degrees", "%{y:.3f}°")
    if stages:
        found["time"] = figures.cost(stages, "seconds", "seconds", "%{x:.2f} s")
        found["memory"] = figures.cost(stages, "peak_memory_mib", "MiB", "%{x:,.0f} MiB")
    return {name: figure for name, figure in found.items() if figure}


def _title(contents: Contents, output: Path) -> str:
    """The image folder's name, or its parent's where it is only called "images"."""
    folder = contents.root or output.resolve()
    return folder.parent.name if folder.name.lower() in {"images", "frames"} else folder.name


def _by_pair(errors: list[dict[str, Any]]) -> dict[tuple[str, str], dict[str, Any]]:
    return {names: e for e in errors for names in (tuple(e["names"]), tuple(reversed(e["names"])))}


def _still(model: SparseModel, eye: Eye) -> str:
    """The picture that stands for the 3D view on paper and without WebGL."""
    picture = draw_model(model, 1180, 640, eye, background=(244, 246, 249), frusta=(37, 99, 168))
    return pictures.data_uri(np.ascontiguousarray(picture[..., ::-1]), 82)
