"""The house's rules about who may import whom, and what may be imported when."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]

# What the library may not need: everything that the application needs beyond torch, numpy, safetensors and OpenCV.
APPLICATION_ONLY = (
    "datasets", "pipeline", "faiss", "h5py", "jinja2", "kornia", "networkx", "onnxruntime", "PIL", "plotly", "pooch",
    "pycolmap", "pydantic", "rich", "scipy", "tensorboard", "yaml",
)  # fmt: skip

BARE = f"""
import sys
for name in {APPLICATION_ONLY!r}:
    sys.modules[name] = None  # importing it now fails
import importlib, pkgutil
import desdis
for module in pkgutil.walk_packages(desdis.__path__, "desdis."):
    if not module.name.startswith("desdis._application"):
        importlib.import_module(module.name)
print("imported")
"""


def run(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)


def test_contracts_of_pyproject():
    code = "import sys; from importlinter.cli import lint_imports_command; sys.exit(lint_imports_command())"
    done = run(sys.executable, "-c", code, "--no-cache")
    assert done.returncode == 0, done.stdout + done.stderr
    assert " 0 broken" in done.stdout


def test_library_alone_imports_on_a_bare_machine():
    done = run(sys.executable, "-c", BARE)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "imported"


def test_pycolmap_is_never_the_first_to_bring_zlib():
    # Importing pycolmap before Python's own zlib corrupts the heap when a PNG is written.
    code = "import sys, pipeline; assert 'pycolmap' not in sys.modules and 'zlib' in sys.modules; print('safe')"
    done = run(sys.executable, "-c", code)
    assert done.stdout.strip() == "safe", done.stderr
