"""Backpropagation through time, recorded: what every gradient was at every step."""

from .collect import backward as backward
from .collect import record as record
from .expand import expand as expand
from .record import Record as Record
from .record import SequenceRecord as SequenceRecord
