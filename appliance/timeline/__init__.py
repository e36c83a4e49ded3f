"""Timeline: from ids to answers, one pipeline for clients and pages.

skeleton (which rows) → hydrate (what they say, in batches) → rules (who may see what) → present
(bytes of JSON). Keeps: blocked-is-unseen, and an order of rows that is stable for ever.
Start at views.py. Leaves HTTP to xrpc and templates to web.
"""
