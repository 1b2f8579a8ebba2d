"""One file per operator command: its fields, its rule, the right it needs. Found by the registry. Floor 3."""
