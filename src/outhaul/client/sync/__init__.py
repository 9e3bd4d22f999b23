"""The client, blocking: `running` is written by hand, the rest is made from `aio`."""
