"""Weights of the networks that kornia implements: a file the user gives, or the one that kornia publishes.

In: an optional path and the addresses that kornia publishes. Out: the file's contents on the CPU, and its hash.
Nothing but tensors and plain containers is read from a file (`weights_only=True`): a pickle may run code otherwise.
"""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from desdis.errors import UserError

_PROBE_SECONDS = 5.0


def load(method: str, file: str | Path | None, urls: str | Sequence[str], option: str) -> tuple[dict[str, Any], str]:
    """Contents and sha256 of a method's weights.

    `method` and `option` name, in errors, what was wanted and which option takes a file. Raises UserError where the
    file is missing or is no weights file, and where no file is given and the download cannot be had.
    """
    import torch

    path = Path(file) if file else _download(method, [urls] if isinstance(urls, str) else list(urls), option)
    if not path.is_file():
        raise UserError(f"{method}: there is no weights file {path}; give another with {option}=FILE")
    try:
        contents = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch names a dozen kinds; to the user they are one
        raise UserError(f"{method}: {path} is not a weights file that torch can read ({_short(error)})") from error
    if not isinstance(contents, dict):
        raise UserError(f"{method}: {path} holds {type(contents).__name__}, expected named tensors (a state dict)")
    return contents, hashlib.sha256(path.read_bytes()).hexdigest()


def fill(network: Any, state: dict[str, Any], method: str, may_miss: Sequence[str] = ()) -> None:
    """Load a state dict (bare, or under "state_dict" as the authors' checkpoints have it) strictly and freeze.

    Keys that begin with one of `may_miss` may be absent. Raises UserError naming the first keys that disagree.
    """
    state = state.get("state_dict", state)
    try:
        missing, unexpected = network.load_state_dict(state, strict=False)
    except (RuntimeError, AttributeError, TypeError) as error:  # another network's shapes, or no tensors at all
        raise UserError(f"{method}: the weights do not fit the network: {_short(error)}") from error
    # Files older than torch 0.4.1 have no batch counters, and inference does not read them.
    missing = [key for key in missing if not key.startswith(tuple(may_miss)) and not key.endswith("batches_tracked")]
    if missing or unexpected:
        told = [f"lacks {missing[0]}"] * bool(missing) + [f"has an unknown {unexpected[0]}"] * bool(unexpected)
        raise UserError(f"{method}: the weights do not fit the network: the file {' and '.join(told)}")
    network.eval().requires_grad_(False)


def _download(method: str, urls: list[str], option: str) -> Path:
    """The published file, fetched once into torch's cache, where kornia keeps it too.

    Not by kornia's own function: without a network that one waits six seconds between its attempts.
    """
    import torch

    cached = Path(torch.hub.get_dir()) / "checkpoints" / urls[0].rsplit("/", 1)[-1]
    if cached.is_file():
        return cached
    cached.parent.mkdir(parents=True, exist_ok=True)
    reason: Exception | None = None
    for url in urls:
        try:
            _reach(url)
            torch.hub.download_url_to_file(url, str(cached), progress=False)
            return cached
        except OSError as error:  # URLError and HTTPError are of its kind
            reason = error
    raise UserError(
        f"{method}: its weights are not here and cannot be downloaded ({_short(reason)}); fetch {urls[-1]} on a "
        f"machine with network and put it at {cached}, or give a file with {option}=FILE"
    ) from reason


def _reach(url: str) -> None:
    """Raise OSError where the host does not answer soon; the download itself would wait for minutes."""
    from urllib.error import HTTPError
    from urllib.request import Request, urlopen

    try:
        with urlopen(Request(url, method="HEAD"), timeout=_PROBE_SECONDS):
            pass
    except HTTPError:
        pass  # the host is there: let the download say what is wrong


def _short(error: Exception | None) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    return " ".join(lines[:2])[:200]
