"""Plans for clusters whose controllers are a pair, and for agents with two directors."""

from typing import Any

from tests.sim.runs import Plan

PAIR_SPANS = (20.0, 40.0, 60.0)  # a failover takes four seconds, and a pair needs as long to couple again
PAIR_DRAWN = Plan(controllers=2, spans=PAIR_SPANS)
DIRECTORS_DRAWN = Plan(with_directors=True, spans=PAIR_SPANS)
PAIR_JOBS_ONLY: dict[str, Any] = {"leaves": ("job",), "nests": (), "bundles": (), "with_limits": False}
