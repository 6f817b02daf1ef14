"""Claims runs of a work pool and runs them on infrastructure."""
