"""``python -m eparch`` is the command line."""

from eparch.cli.app import main

if __name__ == "__main__":
    main()
