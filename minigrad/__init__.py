"""minigrad: see what backpropagation through time does to a gradient.

Array functions carry NumPy's names (`minigrad.tanh`, `minigrad.concatenate`), layers and
optimizers PyTorch's (`minigrad.nn.LSTM`, `minigrad.optim.Adam`).
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from .clip import clip_grad_norm as clip_grad_norm
from .clip import clip_grad_value as clip_grad_value
from .engine import Node as Node
from .engine import Op as Op
from .engine import grad as grad
from .engine import jacobian as jacobian
from .gradcheck import gradcheck as gradcheck
from .ops import *  # noqa: F403  # the ops are listed once, where they are defined
from .scope import is_recording as is_recording
from .scope import named_scope as named_scope
from .scope import no_grad as no_grad
from .tensor import Tensor as Tensor

if TYPE_CHECKING:
    from . import bptt as bptt
    from . import nn as nn
    from . import optim as optim

__version__ = "0.1.0"

_LATER = ("bptt", "nn", "optim")
"""What is read when it is first used: `import minigrad` is little slower than `import numpy`."""


def __getattr__(name: str) -> Any:
    if name in _LATER:
        return importlib.import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_LATER})
