"""What a batch of simulated runs must have met at least once, else it proves less than it seems to. Floor 10.

* `sometimes` conditions are counted by run, not by occurrence: one wild seed does not cover for a hundred tame ones.
* Counts of batches that ran in other processes are added up; who asks for a name that is not in the catalogue is told.
"""

from collections.abc import Iterable, Mapping

CATALOGUE: dict[str, str] = {
    # crashes at bad moments
    "crash: job running": "a subagent was crashed while one of its processes ran",
    "crash: callable running": "a subagent was crashed while a callable ran inside it",
    "crash: attaching": "controller or agent was crashed between OrderAttaching and OrderAttached",
    "crash: detached, not acknowledged": "an agent was crashed with detached orders its controller did not have",
    "crash: fork under way": "the node that owns a forked order was crashed while its branches ran",
    "crash: retry waiting": "an agent was crashed while an order waited before another round of a retry",
    "crash: sleeping": "the owner of a sleeping order was crashed",
    "crash: order in line": "an agent was crashed while an order stood in line for a slot",
    "crash: mark owed": "the controller was crashed while it owed an agent a mark or a release",
    "crash: booting": "a node was crashed before it had finished booting",
    "crash: reports not acknowledged": "a subagent was crashed with reports its director had not acknowledged",
    # disks
    "disk: tail lost": "a crash lost writes that were not fsynced",
    "disk: tail kept": "a crash kept writes that were not fsynced",
    "disk: tail torn": "a crash kept the first records of a write and lost the others",
    "disk: fault": "an fsync failed and ended its node",
    "disk: snapshot": "a node was recovered from a snapshot and the records behind it",
    # links
    "link: session void": "a newer session made undecided commands of the one before void",
    "link: attach again": "an AttachOrder was owed again in a later session",
    "link: start again": "a StartAttempt was owed again in a later session",
    "link: start repeated": "a subagent was asked to start an attempt it had begun before",
    "link: report repeated": "an agent was told again of an attempt whose end it knew",
    "link: records to catch up": "a link was coupled after the agent's records of the time without it were adopted",
    "link: command unanswered": "a client lost its link with a command under way, and sent it again",
    "link: command repeated": "the controller was sent an order that it had already",
    "link: half-open": "only one end of a connection was told that it had ended",
    "network: swizzled": "nodes were cut off one by one and healed in another order",
    "link: peer silent": "a link ended because nothing was heard for three beats",
    # alone
    "alone: attempt assigned": "an agent assigned an attempt while the controller was down",
    "alone: order detached": "an agent gave an order back while the controller was down",
    "alone: job ended": "a process ended while its subagent was down",
    # processes
    "process: adopted": "a subagent adopted a process that an earlier incarnation had started",
    "process: lost with guard": "a process was lost because its guard was killed",
    "process: lost with machine": "a process was lost because its machine was restarted",
    "callable: unknown": "a callable's attempt became unknown because its subagent ended",
    "lost: held": "an order was held because of a lost attempt",
    "lost: rerun": "a lost attempt was run again by its job's own rule",
    "lost: failed": "a lost attempt failed its step by its job's own rule",
    "lost: released": "a person released a held order",
    # people
    "mark: killed running": "an order was killed while an attempt ran",
    "mark: suspended": "an order was suspended",
    "mark: cancelled": "an order was cancelled",
    "join: branch failed": "a fork waited for a person because a branch had failed",
    # nodes
    "node: restarted by supervisor": "a node that ended by itself was booted again by its supervisor",
    "node: restart loop": "a node crashed again and again while it booted",
    "node: paused": "a node was paused for longer than three beats",
    "clock: jumped back": "a wall clock was set back while an order waited for an instant",
    "order: two agents": "an order ran on two agents, one after the other",
}

PAIR_CATALOGUE: dict[str, str] = {
    "pair: failover": "the other controller began to act",
    "pair: failover with a job running": "a process ran while the other controller took over",
    "pair: failover while attaching": "the other controller took over between OrderAttaching and OrderAttached",
    "pair: switched over": "the pair was handed over, and both stayed in sync",
    "pair: takeover refused": "the register refused the pair to one who asked too late",
    "pair: fenced": "an owner's lease ran out",
    "pair: stepped down": "a controller stopped because the other one owns the pair",
    "pair: stale epoch refused": "somebody told a node of a pair that its epoch is over",
    "pair: tail dropped": "a standby dropped durable records that nobody had acknowledged",
    "pair: disk replaced": "an empty disk took the place of one that was in sync",
    "pair: snapshot installed": "a standby was given a snapshot in place of its log",
    "pair: uncoupled": "an owner went on alone",
    "pair: coupled again": "a pair was in sync again",
    "pair: crash during joining": "one of both was crashed while the other's data was about to be in sync",
    "pair: crash of the active": "a controller was crashed that owned the pair",
    "pair: crash of the standby": "a standby was crashed",
    "pair: crash while pending": "a controller was crashed that owned the pair and waited for the end of a lease",
    "pair: two versions": "one of both had a program that reads more than the other's",
    "pair: crash with the register down": "a controller was crashed while the register was down",
    "pair: disk fault of the active": "an fsync of the owner failed",
    "pair: disk fault of the standby": "an fsync of the standby failed",
    "pair: disk restored": "an older copy took the place of a disk that was in sync, under a new store id",
    "pair: damaged record found": "a node of a pair did not boot because a bit of its journal had flipped",
    "pair: half-open": "one of both believed in a connection that the other had lost",
    "pair: taken over from a deaf one": "an owner that heard nobody lost the pair to the other one",
    "pair: taken over from one whose fsync hangs": "an owner that could not write lost the pair to the other one",
    "pair: false stale": "an owner was told that its epoch is over when it was not, and went on",
    "pair: clocks apart": "both clocks drifted apart, an hour apart besides",
    "pair: register fell back": "the register forgot its newest epochs, which both nodes knew",
    "pair: register emptied": "the register forgot everything",
    "pair: register seeded": "an operator seeded the register above what both nodes knew",
    "pair: forced": "an operator forced a node to take over while the other one was off",
}


class Coverage:
    """How many runs met each condition."""

    def __init__(self) -> None:
        self.runs = 0
        self.counts: dict[str, int] = {}

    def add(self, met: Iterable[str]) -> None:
        """Count one run."""
        self.runs += 1
        for name in met:
            self.counts[name] = self.counts.get(name, 0) + 1

    def merge(self, runs: int, counts: Mapping[str, int]) -> None:
        """Add what another process counted."""
        self.runs += runs
        for name, count in counts.items():
            self.counts[name] = self.counts.get(name, 0) + count

    def missing(self, wanted: Iterable[str] = CATALOGUE) -> list[str]:
        """Say which conditions no run met, a sentence each."""
        known = CATALOGUE | PAIR_CATALOGUE
        return [f"{name}: never {known.get(name, 'met')}" for name in wanted if not self.counts.get(name)]

    def table(self) -> list[str]:
        """One line for each condition that was met, the rarest first."""
        ranked = sorted(self.counts.items(), key=lambda one: (one[1], one[0]))
        return [f"{count:6} of {self.runs}  {name}" for name, count in ranked]


class Sometimes:
    """The conditions one run has met."""

    def __init__(self) -> None:
        self.met: dict[str, int] = {}

    def __call__(self, name: str, condition: object = True) -> None:
        """Note that a condition was met, if it was."""
        if condition:
            self.met[name] = self.met.get(name, 0) + 1


def check_name(name: str) -> str:
    """Return a catalogue name unchanged; raises KeyError with what there is."""
    if name not in CATALOGUE and name not in PAIR_CATALOGUE:
        raise KeyError(f"{name!r} is not in the catalogue of engine/simulation/coverage.py")
    return name
