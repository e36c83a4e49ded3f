"""Store: the SQLite file. All SQL text lives here, one module a subject.

Owns the connections. Keeps: one-writer, commit-before-announce.
Start at database.py. Leaves deciding what belongs in one transaction to the features.
"""
