"""The command line: options in, rich output out, no logic of its own."""
