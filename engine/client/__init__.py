"""A handle on a controller over a link: what the library, the command line and the simulation talk through. Floor 6."""
