"""The names of the forms in which a policy can be exported, which cost no import of PyTorch."""

from typing import Literal, TypeAlias

FormatName: TypeAlias = Literal["onnx", "torch", "c", "c-int8", "numpy"]
"""Of `FORMATS`."""
