"""Makers that link the jobs."""
