"""`python -m tfkd`, the same as `tfkd`."""

from tfkd.cli import main

main()
