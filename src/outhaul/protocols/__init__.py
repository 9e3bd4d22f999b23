"""The wire dialects: what devices send, as pure functions from bytes to our records."""
