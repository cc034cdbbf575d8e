"""Two things that pyproject.toml cannot say: which OpenCV is required, and where the application lies in a wheel.

All four wheels of OpenCV install the same folder `cv2`, so a second one overwrites the first and breaks it when either
is removed. The headless wheel is asked for unless the environment that is being installed into holds another one. A
wheel for distribution is built in an empty environment (`python -m build`) and always asks for the headless one.
"""

import sysconfig
from importlib.metadata import distributions
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface
from hatchling.metadata.plugin.interface import MetadataHookInterface

OPENCV_MINIMUM = "4.11"
APPLICATION = ("run_reconstruction.py", "pipeline", "datasets", "configs")


def opencv_requirement(folders: list[str]) -> str:
    """The OpenCV requirement for an environment whose packages lie in `folders` (site-packages)."""
    installed = {dist.name.lower().replace("_", "-") for dist in distributions(path=folders)}
    others = ("opencv-python", "opencv-contrib-python", "opencv-contrib-python-headless")
    wheel = next((name for name in others if name in installed), "opencv-python-headless")
    return f"{wheel}>={OPENCV_MINIMUM}"


class CustomMetadataHook(MetadataHookInterface):
    def update(self, metadata: dict[str, Any]) -> None:
        # sysconfig tells the target's folders even under pip's build isolation, which only hides them from sys.path.
        folders = [sysconfig.get_path("purelib"), sysconfig.get_path("platlib")]
        metadata["dependencies"] = sorted([*self.config["dependencies"], opencv_requirement(folders)])


class CustomBuildHook(BuildHookInterface):
    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        if version != "editable":  # an editable installation runs the application from the checkout
            build_data["force_include"].update({name: f"desdis/_application/{name}" for name in APPLICATION})
