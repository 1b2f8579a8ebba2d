"""RegisterWatch: whether the register answers, for people: the rules infer nothing from a missing answer. Floor 6.

* One alarm for each outage, once it has lasted; the status says it as long as it lasts.
"""

from engine.base.pair import Ownership
from engine.base.pair_query import RegisterSeen
from engine.rules.pair.state import Pair

NEVER = -1


class RegisterWatch:
    """What became of the questions to the register."""

    def __init__(self, pair: str, now_ms: int, patience_ms: int) -> None:
        """`patience_ms`: so long without an answer, and a person is told."""
        self._pair = pair
        self._patience_ms = patience_ms
        self._since_ms = now_ms  # the last answer, or our start
        self._answered_ms = NEVER
        self._fault = ""  # why the last question had no answer
        self._is_unknown = False
        self._told = False

    def answered(self, found: Ownership | None, now_ms: int) -> None:
        """Note an answer."""
        self._since_ms = self._answered_ms = now_ms
        self._fault, self._told, self._is_unknown = "", False, found is None

    def failed(self, sentence: str, now_ms: int) -> str | None:
        """Note that a question had no answer; returns what a person must be told now, if anything."""
        self._fault = sentence
        if self._told or now_ms - self._since_ms < self._patience_ms:
            return None
        self._told = True
        return (
            f"The register of pair {self._pair} gives no answer. {sentence} Until it does nobody can take over, go on"
            " alone or come back: bring it back before a second thing fails."
        )

    def seen(self, me: Pair, now_ms: int) -> RegisterSeen:
        """Return it as the status tells it."""
        silent_ms = NEVER if self._answered_ms == NEVER else now_ms - self._answered_ms
        if self._fault:
            return RegisterSeen("unreachable", self._fault, silent_ms)
        if self._answered_ms == NEVER:
            return RegisterSeen("not asked", "It has not answered this incarnation yet; ask again.", silent_ms)
        if self._is_unknown:
            sentence = f"It has no value for pair {self._pair}: create or seed it there, or correct the name."
            return RegisterSeen("unknown pair", sentence, silent_ms)
        if me.register_lost:
            return RegisterSeen("lost", "It knows less than this node: seed it (docs/failover.md).", silent_ms)
        return RegisterSeen("reachable", "", silent_ms)
