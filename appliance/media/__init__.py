"""Media: pictures of posts and people, fetched from their owners' servers.

Owns the blob cache on disk. Keeps: what is served hashes to the name it is asked by.
Start at images.py. Leaves which records mention a blob to timeline.
"""
