"""`python -m engine`: the door of the command line. Floor 12."""

import sys


def main() -> None:
    """Run the command line and leave with its exit code."""
    from engine.cli.main import main as run_command

    sys.exit(run_command())


if __name__ == "__main__":
    main()
