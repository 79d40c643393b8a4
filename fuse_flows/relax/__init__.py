"""Tiers of energy: a structure goes in, a relaxed structure with an outcome comes out, whatever happens."""
