"""``promring``, and ``python -m promring``."""

import atexit
import gc
import signal

GARBAGE_LOOKED_FOR = 100_000
"""Values that are made until the collector runs: loading a command makes many, and no garbage. A tenth of its CPU."""


def run() -> None:
    """Ctrl-C while the commands are being loaded ends the process without a word, as it does later.

    At its end Python would look for cycles among all values that were made, which takes a sixth of ``promring check``. The
    process ends anyway.
    """
    gc.set_threshold(GARBAGE_LOOKED_FOR)
    atexit.register(gc.freeze)
    is_ours = signal.getsignal(signal.SIGINT) is signal.default_int_handler  # else somebody wants it ignored
    if is_ours:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from promring.cli import main

    if is_ours:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    main()


if __name__ == "__main__":
    run()
