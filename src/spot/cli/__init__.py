"""The command line: an edge without logic of its own."""

INTERRUPTED = 130  # what a shell reports for a command that Ctrl-C ended
GOES_ON = "interrupted: the same command goes on from the last checkpoint"
