"""Where the removal of each rule is noticed: in running clusters, in the search over all worlds, in a test of the rule.

* `RULES` are those whose removal must turn a test red, in the order of the failover page's rules.
* `simulated`: a mistake of pair_mutants.py, found within 30 seeds. `searched`: one of tests/prove/planted.py. `tested`:
  file and name of a test or of another planted mistake. `why`: where the running system can not show it.
"""

import msgspec

LEASES = "tests/sim/lease_runs.py"
LEASE = "tests/rules/pair/test_lease.py"


class Caught(msgspec.Struct, frozen=True):
    """A rule, and where it is missed."""

    rule: str
    simulated: str = ""
    searched: str = ""
    tested: tuple[str, str] = ("", "")
    why: str = ""


RULES: tuple[Caught, ...] = (
    Caught("the register's consent", "goes_alone_without_asking", "goes_solo_by_itself"),
    Caught("the lease is checked before each effect", "may_always_act", "acts_without_a_lease"),
    Caught("no act before uncoupling is learned", "acts_alone_before_it_knows", "acts_alone_once_it_has_asked"),
    Caught("the wait W at activation", "nobody_waits_for_the_lease", "activates_at_once"),
    Caught("a new epoch at boot", "an_old_epoch_goes_on", "resumes_its_epoch_at_boot"),
    Caught(
        "a boot counts as a lease granted",
        searched="forgets_its_grants_at_boot",
        why="with the times as they are, three missed beats after a boot take longer than the wait",
    ),
    Caught("fsync before RepAck", "acknowledged_before_the_write", "acknowledges_before_fsync"),
    Caught("couple only after everything is acknowledged", "couples_out_of_solo", "couples_too_early"),
    Caught("no takeover out of sync", "takes_over_out_of_sync", "takes_over_out_of_sync"),
    Caught("JOINING before the question to couple", "couples_out_of_solo", "couples_out_of_solo"),
    Caught(
        "no remembered yield",
        searched="remembers_a_yield",
        why="it needs a hand-over that was lost, and another epoch, within a lease: rarer than one seed in thirty",
    ),
    Caught(
        "log_epoch never falls, register answers included",
        searched="forgets_log_epoch",
        why="a double: with parts of logs the rule for suffixes holds without it",
    ),
    Caught(
        "an owner that has asked to couple needs a lease",
        searched="acts_without_a_lease_while_joining",
        why="the question takes milliseconds; the other one needs seconds to take over",
    ),
    Caught("a suffix is dropped only at a differing epoch", "drops_what_lies_beyond", "drops_what_lies_beyond_a_rep"),
    Caught("acknowledged is only what was sent", "acknowledges_its_own_end", "acknowledges_its_own_last_index"),
    Caught("agents check the epoch", "any_epoch_is_obeyed"),
    Caught("the store's id is in sync, not the name", "data_is_known_by_name", "trusts_the_name_of_a_node"),
    Caught("a restored disk has a new store id", "a_restored_disk_keeps_its_id"),
    Caught("beats of one who hears nobody, or whose disk hangs, are not good", "bad_beats_are_good"),
    Caught(
        "only a standby grants",
        searched="claims_and_grants",
        why="alone it is a double: nobody grants what is over, and a higher epoch ends an owner",
    ),
    Caught("Stale alone deposes nobody", "deposed_by_hearsay"),
    Caught("the lease counts from the send time", "lease_counts_from_receipt", "lease_from_receipt"),
    Caught(
        "a late loop drops its lease",
        tested=(LEASE, "test_a_late_loop_drops_its_lease_until_a_later_beat_is_answered"),
        why="a simulated callback takes no time, so nothing is late between the check and the effect",
    ),
    Caught("a job's lease counts from its send time", tested=(LEASES, "leases_count_from_the_grant")),
    Caught("a full L_D after a director's start", tested=(LEASES, "a_director_begins_with_no_leases")),
)
