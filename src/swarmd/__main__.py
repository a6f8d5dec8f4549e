"""`python -m swarmd`: the command line."""

from swarmd.cli.main import main

if __name__ == "__main__":
    main()
