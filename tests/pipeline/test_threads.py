"""Work ahead of its use: in order, bounded, in as many threads as asked for."""

import threading

import pytest

from pipeline.threads import ahead


@pytest.mark.parametrize("depth", [None, 0, 7])
def test_results_keep_their_order_and_no_more_items_are_taken_than_may_wait(depth):
    taken = []

    def items():
        for k in range(40):
            taken.append(k)
            yield k

    for used, result in enumerate(ahead(lambda k: k * k, items(), 3, depth=depth)):
        assert result == used**2
        assert len(taken) <= used + (3 if depth is None else depth) + 1


def test_an_error_comes_where_its_result_would_and_ends_the_work():
    begun = []

    def work(k):
        begun.append(k)
        if k == 2:
            raise ValueError("the third")
        return threading.current_thread().name

    results = ahead(work, range(1000), 2, depth=4)
    assert next(results) and next(results)
    with pytest.raises(ValueError, match="the third"):
        next(results)
    assert len(begun) < 20
