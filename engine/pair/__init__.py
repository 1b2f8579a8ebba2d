"""One node of a pair: the rules of `engine.rules.pair` joined to a disk, a register, a peer and a clock. Floor 6."""
