"""`make run`: a small API with real data, and its syncs materialized through Dagster, without a network."""
