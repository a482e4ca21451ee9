"""`minigrad` and `python -m minigrad`: start the command line, and end it in one line whatever happens."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from . import cli
from .errors import MinigradError
from .terminal import one_line, quieted

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and give its exit status: 0; 2 for bad input; 130 for Ctrl-C; 141 for a closed pipe.

    Args:
        argv: The words after `minigrad`; None: those that the process was started with.
    """
    try:
        for stream in (sys.stdout, sys.stderr):  # a name that the terminal cannot spell must not end the run
            if hasattr(stream, "reconfigure"):
                stream.reconfigure(errors="backslashreplace")
        status = cli.run(sys.argv[1:] if argv is None else argv)
        sys.stdout.flush()
    except MinigradError as error:
        return _failed(str(error))
    except MemoryError:
        return _failed("the memory is full. Give a smaller --steps or --hidden.")
    except KeyboardInterrupt:
        return _failed("stopped by Ctrl-C; no file is half written.", 130)
    except BrokenPipeError:
        return quieted()
    except OSError as error:
        where = repr(error.filename) if error.filename else "the output"
        return _failed(f"{where}: {error.strerror or error}. Give a place that can be read and written.")
    return status


def _failed(text: str, status: int = 2) -> int:
    print(f"minigrad: {one_line(text)}", file=sys.stderr)
    return status


if __name__ == "__main__":
    sys.exit(main())
