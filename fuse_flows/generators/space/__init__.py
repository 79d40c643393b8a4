"""The space that generators search: cells, space groups, Wyckoff combinations and coordinates as vectors in a box."""
