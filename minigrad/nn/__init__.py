"""Cells, layers and losses, with PyTorch's names and layouts."""

from . import init as init
from .cells import GRUCell as GRUCell
from .cells import GRUState as GRUState
from .cells import LSTMCell as LSTMCell
from .cells import LSTMState as LSTMState
from .cells import RNNCell as RNNCell
from .cells import RNNState as RNNState
from .layers import GRU as GRU
from .layers import LSTM as LSTM
from .layers import RNN as RNN
from .layers import Recurrent as Recurrent
from .linear import Dropout as Dropout
from .linear import Embedding as Embedding
from .linear import Linear as Linear
from .linear import dropout as dropout
from .losses import binary_cross_entropy_with_logits as binary_cross_entropy_with_logits
from .losses import cross_entropy as cross_entropy
from .losses import mse_loss as mse_loss
from .module import Module as Module
from .module import Parameter as Parameter
from .unroll import unroll as unroll
