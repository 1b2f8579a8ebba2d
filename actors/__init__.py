"""The actors: controller, agent, director, subagent. Floor 8."""
