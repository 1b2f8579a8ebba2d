"""Position: where in a workflow an order stands. Floor 2.

* A position alternates step numbers and branch names and ends with a step number: `(2, "then", 0)`.
* A branch may carry a round number, `"steps+3"`: the third round of a retry. The count of tries lives in the
  position, so it is right again after every replay, without a field of its own.
* A number equal to the block's length means: past the last step of that block.
"""

from functools import lru_cache

Position = tuple[int | str, ...]
Block = tuple[int | str, ...]  # a position without its last number: the block in which the step stands

FIRST: Position = (0,)
ROUND_MARK = "+"
BLOCKS_KEPT_MAX = 16_384  # an order asks for its block several times at each step


def following(position: Position) -> Position:
    """Return the position of the next step in the same block."""
    return (*position[:-1], int(position[-1]) + 1)


def inside(position: Position, branch: str, round_number: int = 0) -> Position:
    """Return the first position of a block nested in the step at `position`; `round_number` 0 means not counted."""
    return (*position, f"{branch}{ROUND_MARK}{round_number}" if round_number else branch, 0)


def outside(position: Position) -> Position | None:
    """Return the position of the step that holds this position's block, or None at the outermost block."""
    return position[:-2] if len(position) > 1 else None


@lru_cache(maxsize=BLOCKS_KEPT_MAX)
def block_of(position: Position) -> Block:
    """Return the block of a position, with round numbers taken away: the key under which its steps are found."""
    if len(position) == 1:
        return ()
    return tuple(part.partition(ROUND_MARK)[0] if isinstance(part, str) else part for part in position[:-1])


def position_text(position: Position) -> str:
    """Write a position as people see it: `2/then/0`."""
    return "/".join(str(part) for part in position)
