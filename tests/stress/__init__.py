"""Long, seeded, bounded trials of what the packages promise; ``make stress`` runs them all."""
