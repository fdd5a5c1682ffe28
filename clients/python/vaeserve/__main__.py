"""`python -m vaeserve` is `vaeserve`."""

from vaeserve._cli import main

main()
