"""Whole clusters in one thread and in virtual time: seeded, replayable, shipped and public. Floor 10."""
