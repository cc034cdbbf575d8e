"""Reading and writing networks: ours (safetensors with metadata), the authors' (.pth), by name or by file.

    network, info = load_network("desdis-32")            # shipped in desdis/weights
    network, info = load_network("official/desdis-32")   # the authors', fetched once and checked
    network, info = load_network("runs/x/best.safetensors")

The network is in eval mode, float32, on the CPU; `info.sha256` is its file's.
"""

import hashlib
import json
import os
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import nn

from desdis import architectures
from desdis.errors import UserError

WEIGHTS = Path(__file__).parent / "weights"

# The authors' repository at the commit whose files were checked, MIT licence. Another address or a folder that holds
# the four files is used instead if DESDIS_OFFICIAL says so.
OFFICIAL_ADDRESS = "https://raw.githubusercontent.com/liuyuzhenn/DesDis/6b4d162/weights"
OFFICIAL = {
    "desdis-8": ("DesDis-8.pth", "b6761e9f63b0e3af0973353b00066213d7c698e490ec906ffc188997a96b77b5"),
    "desdis-16": ("DesDis-16.pth", "714b21738cbb0ce9c3131e75b20cc4a05b0bf4c26cb52a71559012e3be2517c3"),
    "desdis-24": ("DesDis-24.pth", "1cdabdb8beebe8d29bc6e476ec078a6388a7c572d9c4af88872e1352cf798a16"),
    "desdis-32": ("DesDis-32.pth", "51182e79f973f572e5ac5280ce4f220f3f7a24bea9c9ddd727adef01847c2a0d"),
}


@dataclass(frozen=True)
class NetworkInfo:
    """Where a network came from. `metadata` is what the trainer wrote into the file (empty for the authors')."""

    name: str
    architecture: str
    path: Path
    sha256: str
    parameters: int
    metadata: dict[str, str] = field(default_factory=dict)


def available() -> list[str]:
    """Names that `load_network` knows without a file: those shipped, then the authors'."""
    shipped = sorted((path.stem for path in WEIGHTS.glob("*.safetensors")), key=lambda n: (len(n), n))
    return shipped + [f"official/{name}" for name in OFFICIAL]


def file_sha256(path: Path) -> str:
    """The file's sha256 in hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def load_network(name_or_file: str | Path) -> tuple[nn.Module, NetworkInfo]:
    """A network by name or file, in eval mode, with what is known of it. Raises UserError where it cannot be had."""
    name = str(name_or_file)
    if name.startswith("official/"):
        path = official_file(name.removeprefix("official/"))
    elif (WEIGHTS / f"{name}.safetensors").is_file():
        path = WEIGHTS / f"{name}.safetensors"
    else:
        path = Path(name)
        if not path.is_file():
            raise UserError(f"no weights called {name!r}: give a file, or one of {', '.join(available())}")
    state, metadata = read_state(path)
    network = network_of(state, path)
    parameters = sum(parameter.numel() for parameter in network.parameters())
    architecture = str(architectures.recognise(state))
    return network, NetworkInfo(name, architecture, path, file_sha256(path), parameters, metadata)


def read_state(path: Path) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    """A file's tensors as float32 (counters stay integers) and its metadata. Nothing in the file is ever executed."""
    try:
        if path.suffix == ".safetensors":
            from safetensors import safe_open

            with safe_open(path, framework="pt") as file:
                metadata = file.metadata() or {}
                state = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (not a dictionary)
        else:
            metadata = {}
            state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # each reader has its own exceptions for a broken or foreign file
        raise UserError(f"{path} is not a file of network weights ({type(error).__name__}); give another") from error
    if isinstance(state, dict) and isinstance(state.get("state_dict"), dict):  # HardNet's and kornia's way
        state = state["state_dict"]
    if not isinstance(state, dict) or not all(isinstance(value, torch.Tensor) for value in state.values()):
        raise UserError(f"{path} holds something else than named weights; give a .safetensors or .pth of a network")
    state = {key: value.float() if value.is_floating_point() else value for key, value in state.items()}
    return state, metadata


def network_of(state: dict[str, torch.Tensor], path: Path) -> nn.Module:
    """The network a state dict belongs to, with it, in eval mode. Every name and shape must fit."""
    architecture = architectures.recognise(state)
    if architecture is None:
        raise UserError(f"{path} holds another architecture; known are light students, HardNet, SOSNet and HyNet")
    network = architectures.build(architecture)
    try:
        network.load_state_dict(state, strict=True)
    except RuntimeError as error:
        first = str(error).split("\n")[1:2] or [str(error)]
        raise UserError(
            f"{path} looks like {architecture} but its weights do not fit ({first[0].strip()}); give another file"
        ) from error
    for key, value in state.items():
        if not torch.isfinite(value).all():
            raise UserError(f"{path}: {key} holds numbers that are not finite; the file is damaged or badly trained")
    return network.eval()


def save_network(network: nn.Module, path: Path, metadata: dict[str, str], half: bool = False) -> None:
    """Write a network as safetensors with metadata, atomically. `half` stores float16 (running variances included,
    unless one would overflow or vanish)."""
    from safetensors.torch import save_file

    state = {}
    for key, value in network.state_dict().items():
        value = value.detach().cpu().contiguous()
        if half and value.is_floating_point() and torch.allclose(value.half().float(), value, rtol=2e-3, atol=1e-6):
            value = value.half()
        state[key] = value
    architecture = str(architectures.recognise(state))
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(".unfinished")
    save_file(state, unfinished, metadata={"format": "desdis", "architecture": architecture, **metadata})
    unfinished.chmod(0o644)  # the writer makes it private
    os.replace(unfinished, path)


def official_file(name: str) -> Path:
    """The authors' weight file `name` ("desdis-32"): from the folder or address in DESDIS_OFFICIAL, else from their
    repository into the user's cache; its sha256 must be the known one."""
    if name not in OFFICIAL:
        raise UserError(f"the authors published no {name!r}: official/ has {', '.join(OFFICIAL)}")
    filename, sha256 = OFFICIAL[name]
    address = os.environ.get("DESDIS_OFFICIAL", OFFICIAL_ADDRESS).rstrip("/")
    if "://" not in address:
        path = Path(address) / filename
        if not path.is_file():
            raise UserError(f"DESDIS_OFFICIAL names {address}, which holds no {filename}")
        if file_sha256(path) != sha256:
            raise UserError(f"{path} is not the authors' file (its sha256 differs); download it again")
        return path
    try:
        import pooch
    except ImportError as error:
        raise UserError(
            f"download {address}/{filename} yourself and set DESDIS_OFFICIAL to its folder, or pip install pooch"
        ) from error
    cache = Path(os.environ.get("DESDIS_CACHE", pooch.os_cache("desdis")))
    try:
        return Path(pooch.retrieve(f"{address}/{filename}", f"sha256:{sha256}", filename, cache, progressbar=False))
    except ValueError as error:  # pooch's word for a hash that differs
        raise UserError(
            f"{address}/{filename} is not the authors' file (its sha256 differs); nothing was kept"
        ) from error
    except Exception as error:
        raise UserError(
            f"cannot fetch {address}/{filename} ({type(error).__name__}); download it elsewhere and set "
            "DESDIS_OFFICIAL to the folder that holds it"
        ) from error


def metadata_json(**entries: object) -> dict[str, str]:
    """Metadata as safetensors takes it: strings; what is no string becomes JSON."""
    return {
        key: value if isinstance(value, str) else json.dumps(value, sort_keys=True) for key, value in entries.items()
    }
