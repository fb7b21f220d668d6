"""How fast rows come from an API into a database, beside a hand-written loop and the bare limit: `make bench`."""
