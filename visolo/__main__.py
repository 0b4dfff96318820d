"""``python -m visolo``: the command line."""

from visolo.cli import main

main()
