"""The moves of the search: small functions from one block structure to another, and their registry."""
