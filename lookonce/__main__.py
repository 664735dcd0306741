"""`python -m lookonce`, as torchrun starts it, is the program `lookonce`."""

from lookonce.cli.main import run

if __name__ == "__main__":
    run()
