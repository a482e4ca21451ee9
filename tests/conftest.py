"""What holds for every test."""

from __future__ import annotations

import signal

from hypothesis import settings

# A shell's background job ignores Ctrl-C and hands that down; tests press it in programs that they start.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# An example that takes long, on a machine that has other things to do, is not wrong.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")
