"""Members: who belongs here.

Owns the member and invite tables. A member's own repository and every account that the member
follows are tracked; this package keeps their reference counts right when somebody comes or goes.
Start at admission.py. Leaves fetching what that makes necessary to backfill.
"""
