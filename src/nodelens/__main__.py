"""`python -m nodelens`."""

from nodelens.cli import main

main()
