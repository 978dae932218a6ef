"""`python -m relay` is the `relay` command, and so is the script `relay`."""

import gc

__all__ = ["main"]


def main() -> None:
    """Run the command. What is imported stays: the collector would walk over all of it a hundred
    times meanwhile, which is a fifth of the start."""
    gc.disable()
    try:
        from relay.cli import main as command
    finally:
        gc.enable()
    command()


if __name__ == "__main__":
    main()
