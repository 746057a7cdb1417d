"""``python -m metatune`` is the ``metatune`` command."""

from metatune.cli import main

main()
