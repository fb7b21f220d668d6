"""`make run`: the syncs of the checkout, materialized through Dagster from the sample API, without a network."""
