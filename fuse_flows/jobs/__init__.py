"""Thin jobflow jobs around the rooms below; nothing that could be tested without jobflow lives here."""
