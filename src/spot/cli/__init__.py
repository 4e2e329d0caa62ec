"""The command line: an edge without logic of its own."""

INTERRUPTED = 130  # what a shell reports for a command that Ctrl-C ended
GOES_ON = "interrupted: give the same command again; what trains goes on from its last checkpoint"
