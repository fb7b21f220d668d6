"""Operations on syncs, connections and variants, for the HTTP API, the command line and Dagster's control job alike.

Each one takes parsed values, changes the store, and returns what was done as a sentence and as a document.
"""
