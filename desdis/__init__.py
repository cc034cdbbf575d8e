"""Describe patches of photographs with descriptors distilled by Liu and Dong's method (DesDis, IJCV 2024).

describer = desdis.load("desdis-32")
descriptors = describer.describe(grey, lafs)
"""

from desdis._version import __version__
from desdis.describer import Describer, load
from desdis.errors import UserError

__all__ = ["Describer", "UserError", "__version__", "load"]
