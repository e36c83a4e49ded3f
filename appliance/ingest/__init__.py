"""Ingest: from upstream events and snapshots to indexed rows.

Owns the upstream positions, the gaps and the merge rule. Keeps: position-with-rows, gap-means-job,
newest-wins, deleted-stays-deleted, replay-is-harmless. Start at pipeline.py for the way from socket to
commit, at apply.py for what an event does; merge.py holds the rule itself.
Leaves fetching what was missed to backfill.
"""
