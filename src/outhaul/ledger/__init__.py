"""Who may send and ask, what was asked, how far it got: one relational database."""
