"""Where structures come from that are neither assembled nor moved: the pool, and the files that a user brings."""
