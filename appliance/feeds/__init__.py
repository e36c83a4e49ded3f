"""Feed generators: those of others, whom we ask for skeletons, and our own.

Owns the own_feed table. Start at generators.py for feeds of others and at own.py for ours; publishing.py
writes the records of ours into somebody's repository. What skeletons show is hydrated by timeline.
"""
