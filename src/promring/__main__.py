"""``python -m promring``."""

from promring.cli import main

main()
