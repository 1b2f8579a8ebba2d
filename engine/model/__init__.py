"""The nouns: orders, workflows, events, commands. Floor 2."""
