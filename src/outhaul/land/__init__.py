"""Journal → tables, exactly once."""
