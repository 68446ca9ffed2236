"""``promring``, and ``python -m promring``."""

import signal


def run() -> None:
    """Ctrl-C while the commands are being loaded ends the process without a word, as it does later."""
    is_ours = signal.getsignal(signal.SIGINT) is signal.default_int_handler  # else somebody wants it ignored
    if is_ours:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from promring.cli import main

    if is_ours:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    main()


if __name__ == "__main__":
    run()
