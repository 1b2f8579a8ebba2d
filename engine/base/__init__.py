"""The ground: what every floor above may use and that knows nothing of workflows. Floor 0."""
