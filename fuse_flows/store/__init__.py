"""MongoDB: the embedded server, the LaunchPad and JobStore of a search, their indexes, repairs and queries."""
