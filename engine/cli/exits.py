"""Exit codes, and the exception by which a command ends with one of them and a sentence. Floor 11.

* The numbers are stable; docs/exit-codes.md explains them, and a test compares the two.
* A code tells what became of the order, or who can mend it: the person, the document, the disk, or we.
"""

import enum


class ExitCode(enum.IntEnum):
    """How a command ended."""

    FINISHED = 0  # the order finished; the command did what was asked
    FAILED = 1  # the order failed or broke; a journal is damaged
    USAGE = 2  # the command was called wrongly
    HELD = 3  # the order waits for a person's word
    CANCELLED = 4
    SUSPENDED = 5
    MISTAKE = 70  # ours
    STATE = 74  # the state directory or a file can not be used
    IN_USE = 75  # another process has the state directory
    DOCUMENT = 78  # the workflow document is wrong
    INTERRUPTED = 130  # by Ctrl-C, before anything began or without waiting for the end


class Ended(Exception):
    """A command ends here: the code for the shell, the sentence for the person."""

    def __init__(self, code: ExitCode, sentence: str = "") -> None:
        super().__init__(sentence)
        self.code = code
        self.sentence = sentence
