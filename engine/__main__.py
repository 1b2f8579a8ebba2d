"""`python -m engine`: the door of the command line. Floor 12."""

import gc
import sys


def main() -> None:
    """Run the command line and leave with its exit code."""
    from engine.cli.main import main as run_command

    code = run_command()
    gc.freeze()  # the interpreter's last search for garbage would cost a fifth of a short run
    sys.exit(code)


if __name__ == "__main__":
    main()
