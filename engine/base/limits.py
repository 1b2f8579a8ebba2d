"""Every bound of the kernel that crosses module borders, by name, with what happens when it is reached. Floor 0."""

# One turn of the loop.
STEPS_PER_TURN_MAX = 1_000  # steps an order may advance by itself in one turn; the rest becomes the next turn's work
COMMANDS_PER_TURN_MAX = 512  # commands decided before one append
MAILBOX_LENGTH_MAX = 100_000  # beyond it a command is refused with MailboxFull; the peer's link stops reading
BATCHES_IN_FLIGHT_MAX = 8  # appended but not yet acknowledged; beyond it only urgent commands are decided
EVENTS_BYTES_MAX = 8 << 20  # encoded events of one record; a command that needs more is refused

# Links.
FRAME_BYTES_MAX = 16 << 20  # a whole message after its fragments are joined; a larger one ends the connection
FRAGMENT_BYTES_MAX = 64 << 10  # so that a beat never waits behind bulk
MESSAGE_ITEMS_MAX = 1_000  # commands, records or replies in one message
COMMANDS_UNANSWERED_MAX = 10_000  # per session; the sender waits
HANDSHAKE_MS_MAX = 5_000
BEAT_MS = 1_000
BEATS_MISSED_MAX = 3

# Orders and workflows.
ORDERS_MAX = 2_000_000
WORKFLOWS_MAX = 10_000
ORDERS_TERMINATED_KEPT_MAX = 10_000  # beyond it the oldest terminated orders are deleted
ORDERS_PER_BULK_MAX = 1_000
BRANCHES_MAX = 10_000  # children of one fork
ATTEMPTS_MAX = 2**31 - 1
RETRIES_MAX = 1_000
VARIABLES_BYTES_MAX = 1 << 20  # an order's variables, encoded
PAGE_LENGTH_MAX = 1_000  # rows of one query's answer
RESULT_BYTES_MAX = 1 << 20  # a job's result file
MESSAGE_LENGTH_MAX = 2_000  # a sentence inside an outcome
OUTPUT_BYTES_MAX = 100 << 20  # default for one stream of one attempt; the rest is cut with a mark
PARALLEL_ATTEMPTS_MAX = 200  # default of one subagent
