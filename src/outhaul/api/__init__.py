"""The own door, `/api/v1`: exports asked for, looked at, stopped and fetched; tokens; the audit log.

`operations` says what an operation is, `app` serves the table of them, `openapi` describes it.
"""
