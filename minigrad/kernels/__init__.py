"""Whole-sequence RNN, LSTM and GRU on plain arrays: forward, backward, and what happened at every step.

Each kernel names the cell whose unrolling it equals; nothing here records a graph.
"""

from . import gru as gru
from . import lstm as lstm
from . import rnn as rnn
