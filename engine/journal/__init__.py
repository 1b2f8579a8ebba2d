"""The journal: an append-only, hash-chained log of records with one snapshot and local cells, and its feed. Floor 4."""
