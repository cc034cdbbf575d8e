# h5py's own types say that every item of a file may be a group, a dataset or a datatype; we know what we wrote.
from typing import Any

def __getattr__(name: str) -> Any: ...
