"""The course: what a lesson is told with, what an exercise is checked with."""

from .judge import Judge as Judge
from .judge import hole as hole
from .narrate import Narrator as Narrator
from .narrate import narrate as narrate
from .practise import practise as practise
