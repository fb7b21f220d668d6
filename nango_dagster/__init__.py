"""Nango's syncs on Dagster: external APIs into SQL tables, one asset and one schedule per sync."""
