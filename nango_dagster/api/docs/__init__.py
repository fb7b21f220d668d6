"""The reference at /docs: the routes, and the models of the syncs in the store."""
