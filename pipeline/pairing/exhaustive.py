"""Every photograph with every other."""

from itertools import combinations


def exhaustive(names: list[str]) -> list[tuple[str, str]]:
    return list(combinations(sorted(names), 2))
