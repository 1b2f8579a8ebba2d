"""One file per instruction: its syntax, its rule, where it runs. Found by the registry. Floor 3."""
