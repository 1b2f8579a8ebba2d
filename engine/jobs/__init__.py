"""One file per way to run a job, and the guard that outlives us. Floor 4."""
