"""Ingest: from upstream events and snapshots to indexed rows.

Owns the upstream positions and the merge rule. Keeps: position-with-rows, newest-wins,
deleted-stays-deleted, replay-is-harmless. Start at apply.py; merge.py holds the rule itself.
Leaves fetching what was missed to backfill.
"""
