"""What every worker of a build needs, and what takes longest to import: see `workers`. Importing this imports it."""

from __future__ import annotations

import signal
import threading

_is_main = threading.current_thread() is threading.main_thread()
_interrupt = signal.getsignal(signal.SIGINT)
if _is_main:  # meanwhile Ctrl-C is the parent's alone, which ends this process
    signal.signal(signal.SIGINT, signal.SIG_IGN)

from .workers import quieten  # noqa: E402

quieten()

import torch  # noqa: E402
import torch._dynamo  # noqa: E402, F401  `torch.export` would import it when it is first called

if _is_main:
    signal.signal(signal.SIGINT, _interrupt)
