"""Optimisers that choose the next candidates, behind one interface of asking and telling in batches."""
