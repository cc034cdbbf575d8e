"""What a person sees: a progress bar on every long stage, quiet when not a terminal, and one screen of summary."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table


@contextmanager
def bar(console: Console, text: str, total: int) -> Iterator[Callable[[int], None]]:
    """A progress bar; the function it gives takes how many are done."""
    columns = (TextColumn("{task.description:<12}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(),
               TimeRemainingColumn())  # fmt: skip
    with Progress(*columns, console=console, disable=not console.is_terminal, transient=True) as progress:
        task = progress.add_task(text, total=total)
        yield lambda done: progress.update(task, completed=done)


def summary(console: Console, report: dict[str, Any], output: str) -> None:
    """The report on one screen."""
    images = report["images"]
    stages = Table(box=None, pad_edge=False, header_style="bold")
    for name, justify in (("stage", "left"), ("what", "left"), ("seconds", "right"), ("peak MiB", "right")):
        stages.add_column(name, justify=justify)  # type: ignore[arg-type]
    for name, cost in report["stages"].items():
        stages.add_row(name, cost.get("what", ""), f"{cost['seconds']:.1f}", f"{cost['peak_memory_mib']:.0f}")
    stages.add_row("all", "", f"{report['seconds_total']:.1f}", f"{report['peak_memory_mib']:.0f}", style="bold")
    console.print(stages)
    console.print()
    for model in report["models"]:
        console.print(
            f"model {model['index']}: [bold]{model['registered_images']} of {images['used']}[/] photographs, "
            f"{model['points3D']} points, mean track {model['mean_track_length']:.2f}, "
            f"mean reprojection error {model['mean_reprojection_error_px']:.2f} px"
        )
    if not report["models"]:
        console.print("[bold red]nothing could be reconstructed[/]: see the reasons below")
    if report["accuracy"]:
        a = report["accuracy"]
        console.print(
            f"accuracy: mAA(10°) [bold]{a['maa_10']:.3f}[/], mAA(5°) {a['maa_5']:.3f}, AUC@1/5/10° "
            f"{a['auc_1']:.3f} {a['auc_5']:.3f} {a['auc_10']:.3f}, median pose error "
            f"{a['median_pose_error_deg']:.3f}°, registered {a['registered_ratio']:.0%}"
        )
    console.print(f"orientation: {escape(report['orientation']['decision'])} ({escape(report['orientation']['why'])})")
    for note in report["notes"]:
        console.print(f"note: {escape(note)}")
    _listed(console, "skipped", images["skipped"])
    _listed(console, "in no model", images["not_registered"])
    versions = report["versions"]
    console.print(
        f"desdis {versions['desdis']}, pycolmap {versions['pycolmap']}, recipe {report['recipe_hash'][:12]}, "
        f"weights {(report['weights_sha256'] or 'none')[:12]}, seed {report['seed']}"
    )
    console.print(f"[bold]{escape(output)}[/]: report.html, report.json, sparse/, points.ply")


def _listed(console: Console, title: str, items: list[dict[str, str]], most: int = 12) -> None:
    for item in items[:most]:
        console.print(f"{title}: {escape(_printable(item['name']))}: {escape(_printable(item['reason']))}")
    if len(items) > most:
        console.print(f"{title}: {len(items) - most} more, see report.json")


def _printable(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode()
