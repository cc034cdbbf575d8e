"""Work done ahead of its use, in threads, with a bound on what waits."""

from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")


def ahead(
    work: Callable[[T], R],
    items: Iterable[T],
    workers: int,
    initializer: Callable[[], None] | None = None,
    depth: int | None = None,
) -> Generator[R, None, None]:
    """Results in the order of the items, computed by threads that keep at most `depth` + 1 of them ready (default:
    one a worker; more where the items' work differs much). Items are taken in the caller's thread; `initializer` is
    called once in each thread."""
    depth = workers if depth is None else depth
    waiting: deque[Future[R]] = deque()
    with ThreadPoolExecutor(workers, initializer=initializer) as pool:
        try:
            for item in items:
                waiting.append(pool.submit(work, item))
                if len(waiting) > depth:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()


def single_threaded_torch() -> None:
    """What a thread calls first that has others beside it: many small products in one thread each are faster than each
    in several. torch's setting is of the calling thread alone."""
    import torch

    torch.set_num_threads(1)
