"""minigrad: see what backpropagation through time does to a gradient.

Array functions carry NumPy's names (`minigrad.tanh`, `minigrad.concatenate`), layers and
optimizers PyTorch's (`minigrad.nn.LSTM`, `minigrad.optim.Adam`).
"""

from __future__ import annotations

from . import bptt as bptt
from . import nn as nn
from . import optim as optim
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

__version__ = "0.1.0"
