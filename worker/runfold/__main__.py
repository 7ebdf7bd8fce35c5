"""`python -m runfold` is the command line."""

from runfold.cli import main

main()
