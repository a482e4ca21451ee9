"""The command line: one file a command, listed once in COMMANDS.

A command is a module with `add_arguments(parser)` and `run(args) -> int`; it is called by the module's
name, and the first line of its docstring says in `minigrad --help` what it does.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from types import ModuleType
from typing import NoReturn

from .. import __version__
from ..errors import MinigradError
from . import bptt as bptt
from . import check as check
from . import course as course
from . import data as data
from . import hint as hint
from . import lesson as lesson
from . import progress as progress
from . import sample as sample
from . import train as train

__all__ = ["COMMANDS", "Parser", "run"]

COMMANDS: tuple[ModuleType, ...] = (bptt, train, sample, data, course, lesson, check, hint, progress)


class Parser(argparse.ArgumentParser):
    """A parser whose errors are the caller's to show, with the way to help."""

    def error(self, message: str) -> NoReturn:
        raise MinigradError(f"{message} (see: {self.prog} --help)")


def run(argv: Sequence[str]) -> int:
    """Run the command that `argv` names; without one, print the help.

    Raises:
        MinigradError: The words are not a command with good arguments.
    """
    about = "See what backpropagation through time does to a gradient."
    parser = Parser(prog="minigrad", description=about, allow_abbrev=False)
    parser.add_argument("--version", action="version", version=f"minigrad {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", title="commands")
    for module in COMMANDS:
        about = (module.__doc__ or "").partition("\n")[0]
        command = commands.add_parser(
            module.__name__.rpartition(".")[2], help=about, description=about, allow_abbrev=False,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )  # fmt: skip
        module.add_arguments(command)
        command.set_defaults(run=module.run)
    try:
        args = parser.parse_args(argv)
    except SystemExit:  # --help and --version have printed what they have to say
        return 0
    if "run" not in args:
        parser.print_help()
        return 0
    status: int = args.run(args)
    return status
