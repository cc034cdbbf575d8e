"""DesDis (Liu & Dong, IJCV 2024): a light network on 32x32 patches, distilled from a teacher."""

from typing import Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field


class DesDis:
    """Thin over `desdis.load`: the library describes, this names its options."""

    class Options(BaseModel):
        model_config = ConfigDict(extra="forbid", frozen=True)
        magnification: float | None = Field(
            default=None, gt=0, le=64, description="patch half-width in sigmas of the frame (default: as trained, 9)"
        )
        runtime: Literal["auto", "torch", "compiled", "onnx", "bf16", "int8"] = Field(
            default="auto", description="how the network is run"
        )

    max_ratio = 0.9

    def __init__(self, options: Options, weights: str | None = None, device: str = "cpu"):
        import desdis

        self.options = options
        self._describer = desdis.load(weights or "desdis-32", device=device, runtime=options.runtime)
        self.weights_sha256 = self._describer.sha256

    def describe(self, grey: np.ndarray, lafs: np.ndarray) -> np.ndarray:
        return self._describer.describe(grey, lafs, magnification=self.options.magnification)
