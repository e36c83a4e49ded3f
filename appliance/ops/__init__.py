"""Ops: what an operator and a monitor ask. Probes, metrics, and commands to the running process.

Owns nothing stored. Keeps: the truth about itself, also when the database is read-only.
Start at probes.py. Leaves repairing to backfill.
"""
