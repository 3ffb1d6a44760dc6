"""`python -m flows.command_line` is `narrowcast`."""

from flows.command_line import main

main()
