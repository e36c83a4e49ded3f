"""Web: the pages that a person reads and the forms that they send. Works without script.

Owns routes, templates and the style sheet. Keeps: blocked-is-unseen (by reading only through
timeline), secrets-stay-in. Start at pages.py. Leaves what a timeline holds to timeline, and
what a record looks like to writes.
"""
