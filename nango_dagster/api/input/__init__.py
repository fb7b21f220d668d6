"""Reading of requests: bodies, parameters, addresses, and which syncs and connections they name."""
