"""Sync scripts in TypeScript: their project, their manifest, and the Node process that runs them."""
