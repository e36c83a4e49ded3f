"""Backfill: what the streams did not bring.

Owns the scan and fetch tables and moves repositories between QUEUED, SCANNING, LIVE, WAIT, INACTIVE,
GONE and PRUNING. Keeps: gap-means-job, newest-wins, deleted-stays-deleted. Start at backfill.py.
Leaves the merge rule and every index row to ingest.
"""
