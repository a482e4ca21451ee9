"""Let a trained character model write."""

from __future__ import annotations

import argparse
import itertools
import math

import numpy as np

from .. import checkpoint
from ..character import CharacterModel
from ..terminal import escaped
from .arguments import number, whole

__all__ = ["add_arguments", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Give the parser this command's options."""
    parser.epilog = "Control characters other than line ends and tabs are spelled out.\n\nExit status: 0; 2 bad input."
    add = parser.add_argument
    add("file", metavar="FILE", help="what minigrad train saved")
    add("--prompt", metavar="TEXT", default="", help="what it has read before; default: a line end")
    add("--temperature", metavar="X", type=number(0, math.inf), default=1.0,
        help="below 1 the likely gets likelier, at 0 the likeliest is taken; default: 1")  # fmt: skip
    add("--length", metavar="N", type=whole(0), default=500, help="characters to write; default: 500")
    add("--seed", metavar="S", type=whole(0), help="the same seed draws the same text; default: another each time")


def run(args: argparse.Namespace) -> int:
    """Write the prompt, and after it what the model draws.

    Raises:
        MinigradError: The file is no checkpoint, or the prompt has characters it does not know.
    """
    model = CharacterModel.restored(checkpoint.load(args.file))
    drawn = model.sample(args.prompt, temperature=args.temperature, rng=np.random.default_rng(args.seed))
    print(escaped(args.prompt), end="")
    for character in itertools.islice(drawn, args.length):
        print(escaped(character), end="", flush=True)
    print()
    return 0
