"""The command `fathom`: options, commands, and errors as one message."""
