"""Matchers: one file a method. A matcher is a function of pairs of sets of descriptors."""

from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Literal, NamedTuple, Protocol

import numpy as np
from pydantic import BaseModel, ConfigDict, Field


class MatcherOptions(BaseModel):
    """How descriptors become matches."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    name: Literal["nn"] = Field(default="nn", description="nn: nearest neighbours by Euclidean distance")
    max_ratio: float | None = Field(
        default=None,
        gt=0,
        le=1,
        description="nearest distance at most this times the second nearest's, both ways; 1: no test; "
        "default: what suits the descriptor (DesDis 0.9, RootSIFT 0.8)",
    )
    max_distance: float = Field(
        default=2.0, gt=0, le=2, description="largest distance of unit descriptors; 2: no limit"
    )
    cross_check: bool = Field(
        default=True, description="each must be the other's nearest, and pass the ratio test there too"
    )
    sieve_from: int = Field(
        default=1000,
        ge=0,
        description="of more pairs than this, those whose 1,024 strongest of 4,096 or more keypoints hardly match are "
        "left unmatched; 0: match all",
    )
    cache_mib: int = Field(default=1024, ge=1, description="descriptors kept in memory between pairs, MiB")
    block: int = Field(
        default=1024,
        ge=16,
        le=65536,
        description="rows of a pair compared at once: memory is block x descriptors x 4 B for each thread, and as many "
        "times that as pairs are matched at once",
    )


class Found(NamedTuple):
    """indices (K, 2) int32 rows of the first and second set, ascending by the first; scores (K,) float32 in 0..1:
    1 - nearest distance / second nearest distance."""

    indices: np.ndarray
    scores: np.ndarray


# d0 (N, D), d1 (M, D) float32 rows of unit length, or zero rows, which never match.
Pair = tuple[np.ndarray, np.ndarray]
MatchPairs = Callable[[Sequence[Pair]], list[Found]]


class Matcher(Protocol):
    """Each pair to its matches. Pairs that come together are matched together."""

    def __call__(self, pairs: Sequence[Pair], options: MatcherOptions, device: str = "cpu") -> list[Found]: ...


RATIO = 0.9  # where neither the options nor a descriptor says another

SIMILARITIES = 2**25  # of all pairs that a processor matches at once: beyond, memory is slower than calls are

MATCHERS = {"nn": "pipeline.matchers.nn:match"}


def match_pairs(pairs: Sequence[Pair], options: MatcherOptions | None = None, device: str = "cpu") -> list[Found]:
    """Matches of each pair of sets of descriptors, by the matcher that the options name, as many pairs at once as suit
    the device."""
    options = options or MatcherOptions()
    if options.max_ratio is None:
        options = options.model_copy(update={"max_ratio": RATIO})
    module, function = MATCHERS[options.name].split(":")
    matcher: Matcher = getattr(import_module(module), function)
    step = together(device)
    if device == "cpu":
        largest = max((len(d0) * len(d1) for d0, d1 in pairs), default=0)
        step = max(1, min(step, SIMILARITIES // max(1, largest)))
    return [found for k in range(0, len(pairs), step) for found in matcher(pairs[k : k + step], options, device)]


def together(device: str) -> int:
    """Pairs that are matched at once, where they are small: on a processor few and long calls, for which its threads
    wait less for each other; a GPU wants many."""
    return 4 if device == "cpu" else 32


def match(d0: np.ndarray, d1: np.ndarray, options: MatcherOptions | None = None, device: str = "cpu") -> Found:
    """Matches between two sets of descriptors, (N, D) and (M, D) float32."""
    return match_pairs([(d0, d1)], options, device)[0]
