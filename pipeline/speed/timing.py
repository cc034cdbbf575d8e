"""Fair seconds on a machine that others use too: contenders take turns, and ratios are taken within a turn.

Wall time suffers from other programs; processor time (of all threads) hardly does. Both are kept.
"""

import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any


@dataclass
class Timing:
    """Seconds of each turn; `amount` is what one turn handles (patches, pairs, photographs)."""

    amount: float = 1.0
    wall: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)

    @property
    def rate(self) -> float:
        """Amount per second of wall time, median."""
        return self.amount / median(self.wall)

    @property
    def cpu_rate(self) -> float:
        """Amount per second of processor time, median."""
        return self.amount / median(self.cpu)


@dataclass(frozen=True)
class Contender:
    """`call` does the work on `amount` things; `note` goes into the table."""

    call: Callable[[], Any]
    amount: float = 1.0
    note: str = ""


def interleaved(contenders: Mapping[str, Contender], rounds: int) -> dict[str, Timing]:
    """Run every contender once to warm up, then `rounds` times in turns, each round beginning with another one."""
    for contender in contenders.values():
        contender.call()
    timings = {name: Timing(contender.amount) for name, contender in contenders.items()}
    names = list(contenders)
    for turn in range(rounds):
        for name in names[turn % len(names) :] + names[: turn % len(names)]:
            wall, cpu = time.perf_counter(), time.process_time()
            contenders[name].call()
            timings[name].cpu.append(time.process_time() - cpu)
            timings[name].wall.append(time.perf_counter() - wall)
    return timings


def speedup(timing: Timing, reference: Timing, kind: str = "wall") -> float:
    """How many times faster per thing than the reference: the median of the rounds' own ratios."""
    pairs = zip(getattr(reference, kind), getattr(timing, kind), strict=True)
    return median(theirs / ours for theirs, ours in pairs) * timing.amount / reference.amount


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A markdown table; the first column is text, the others are numbers."""
    line = "| " + " | ".join(header) + " |"
    rule = "| --- |" + " ---: |" * (len(header) - 1)
    return "\n".join([line, rule, *("| " + " | ".join(row) + " |" for row in rows)])


def timing_table(contenders: Mapping[str, Contender], timings: Mapping[str, Timing], reference: str, thing: str) -> str:
    """A line a contender: rates by wall and by processor time, and how many times faster than the reference."""
    rows = []
    for name, timing in timings.items():
        rows.append(
            [
                name,
                f"{1e3 * median(timing.wall) / timing.amount:.3g}",
                f"{1e3 * median(timing.cpu) / timing.amount:.3g}",
                f"{timing.rate:,.4g}" if timing.rate < 100 else f"{timing.rate:,.0f}",
                f"{speedup(timing, timings[reference]):.2f}",
                f"{speedup(timing, timings[reference], 'cpu'):.2f}",
                contenders[name].note,
            ]
        )
    header = ["method", f"ms a {thing}", "CPU ms", f"{thing} rate, 1/s", "× faster", "× by CPU time", "note"]
    return f"Reference: {reference}.\n\n" + table(header, rows)


def set_threads(threads: int) -> None:
    """The same number of threads for every library (ONNX Runtime and new OpenMP pools read the environment)."""
    os.environ["OMP_NUM_THREADS"] = str(threads)
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    import cv2
    import torch

    torch.set_num_threads(threads)
    cv2.setNumThreads(threads)
    try:
        import faiss  # pyright: ignore[reportMissingImports]

        faiss.omp_set_num_threads(threads)
    except ImportError:
        pass
