"""Makes `python -m partsong` run the command `partsong`."""

from partsong.cli.main import main

if __name__ == "__main__":
    main()
