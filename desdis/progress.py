"""What a person sees of a training: a CSV and TensorBoard log to plot; a bar on a terminal, plain lines elsewhere."""

import csv
import os
import sys
import time
from pathlib import Path
from typing import Any

import torch

SHOWN = ("loss", "score", "pairs_per_second")  # beside the bar


class Log:
    """log.csv in long form (step, name, value): any number of curves, appended line by line, easy to plot.

    Lines after `step` (of a run that was killed after its last saved state) are dropped on opening.
    """

    def __init__(self, folder: Path, step: int) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.path = folder / "log.csv"
        rows = []
        if self.path.is_file():
            with open(self.path, newline="") as file:
                rows = [row for row in csv.reader(file) if len(row) == 3 and row[0].isdigit() and int(row[0]) <= step]
        unfinished = self.path.with_suffix(".unfinished")
        with open(unfinished, "w", newline="") as file:
            csv.writer(file).writerows([["step", "name", "value"], *rows])
        os.replace(unfinished, self.path)
        self.events = tensorboard(folder, step)
        self.sums: dict[str, torch.Tensor] = {}
        self.steps, self.pairs, self.seconds, self.clock = 0, 0, 0.0, time.monotonic()

    def add(self, parts: dict[str, torch.Tensor], pairs: int) -> None:
        """One step's values; they are read from the device only when their mean is written."""
        now = time.monotonic()
        self.steps, self.pairs = self.steps + 1, self.pairs + pairs
        self.seconds, self.clock = self.seconds + now - self.clock, now
        for key, value in parts.items():
            self.sums[key] = self.sums.get(key, 0) + value

    def write_means(self, step: int, learning_rate: float) -> dict[str, float]:
        """The means since the last call, the speed in pairs/s (validation and saving not counted), into the log."""
        entries = {key: float(value) / self.steps for key, value in self.sums.items()}
        entries |= {"learning_rate": learning_rate, "pairs_per_second": self.pairs / max(self.seconds, 1e-9)}
        self.sums, self.steps, self.pairs, self.seconds = {}, 0, 0, 0.0
        self.write(step, entries)
        return entries

    def write(self, step: int, entries: dict[str, float]) -> None:
        """Append values under their names; the time it took since the last step is not counted as training."""
        with open(self.path, "a", newline="") as file:
            csv.writer(file).writerows([step, key, repr(float(value))] for key, value in entries.items())
        if self.events is not None:
            for key, value in entries.items():
                self.events.add_scalar(key, value, step)
            self.events.flush()
        self.clock = time.monotonic()


def tensorboard(folder: Path, step: int):
    """A TensorBoard writer, or None where TensorBoard is not installed."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        return None
    return SummaryWriter(str(folder), purge_step=step + 1)


class Progress:
    """A bar (rich) on a terminal; without a terminal or rich, `say` prints lines. Leaving its `with` block, however
    that happens, gives the terminal back."""

    def __init__(self, steps: int, done: int, quiet: bool = False) -> None:
        self.bar, self.quiet, self.steps = None, quiet, steps
        if quiet or not sys.stderr.isatty():
            return
        try:
            from rich.console import Console
            from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
            from rich.progress import Progress as Bar
        except ImportError:
            return
        shown = "  ".join(f"{name} {{task.fields[{name}]}}" for name in SHOWN)
        self.bar = Bar(
            BarColumn(20), MofNCompleteColumn(), TimeRemainingColumn(), TextColumn(shown), console=Console(stderr=True)
        )
        self.bar.start()
        empty: dict[str, Any] = dict.fromkeys(SHOWN, "-")
        self.task = self.bar.add_task("", total=steps, completed=done, **empty)

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, *_: object) -> None:
        if self.bar is not None:
            self.bar.stop()

    def announce(self, text: str) -> None:
        """A line that stays."""
        if self.bar is not None:
            self.bar.console.print(text, markup=False, highlight=False)
        elif not self.quiet:
            print(text, file=sys.stderr, flush=True)

    def step(self, done: int) -> None:
        """`done` steps are behind us."""
        if self.bar is not None:
            self.bar.update(self.task, completed=done)

    def say(self, done: int, entries: dict[str, float]) -> None:
        """Show these values; the bar has room for SHOWN of them, log.csv has all."""
        values: dict[str, Any] = {key: f"{value:.4g}" for key, value in entries.items()}
        if self.bar is not None:
            self.bar.update(self.task, **{key: text for key, text in values.items() if key in SHOWN})
        elif not self.quiet:
            text = "  ".join(f"{key} {value}" for key, value in values.items())
            print(f"step {done} of {self.steps}  {text}", file=sys.stderr, flush=True)
