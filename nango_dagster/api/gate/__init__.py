"""Checks around every request: the key, the limits, the HTTP protocol, the log line and the metrics."""
