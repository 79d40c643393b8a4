"""The documents as they lie in MongoDB."""
