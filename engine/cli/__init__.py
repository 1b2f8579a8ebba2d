"""The command line: one file for each command, each loaded when it is asked for. Floor 11."""
