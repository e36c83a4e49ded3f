"""Writes: records of members, sent to their own PDS and shown here at once.

Keeps: a write is done, surely not done, or said to be unknown; never made twice. Start at repos.py.
Leaves tokens to auth and index rows to ingest.
"""
