"""How often Python looks for garbage that reference counting leaves behind."""

from __future__ import annotations

import gc


def collect_garbage_less_often() -> None:
    """Call it when a process has loaded its code, which is then never looked through.

    Records and requests are tens of thousands of objects without cycles: looking through them cost an import 10 % of
    its time.
    """
    gc.freeze()
    gc.set_threshold(20_000, 20, 100)
