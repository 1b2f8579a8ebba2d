"""The rules: every decision, pure. No clock, no I/O, no randomness, no await. Floor 3."""
