"""`python -m flows.command_line` is `narrowcast`."""

from flows.entry_point import main

main()
