"""`python -m outhaul`."""

from outhaul.cli import main

if __name__ == "__main__":
    main()
