"""The messages and stubs of `secretbroker.v1`, as generated."""
