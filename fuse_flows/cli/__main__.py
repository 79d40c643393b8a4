"""Run the command line with ``python -m fuse_flows.cli``."""

from fuse_flows.cli.app import main

main()
