"""The appliance: a complete, chronological, gap-free timeline in one file."""
