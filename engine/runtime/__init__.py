"""The runtime: the durable loop, links between nodes, timers, and the real world. Floor 5."""
