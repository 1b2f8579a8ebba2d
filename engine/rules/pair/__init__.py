"""The pair: which of two nodes may act, and what both must hold before anyone hears of it. Floor 3.

`machine` is the door; the rules stand in the leaves: `lease`, `replication`, `ownership`. docs/failover.md explains.
"""
