"""The command line, one module a group: a command parses, calls one library function, prints."""
