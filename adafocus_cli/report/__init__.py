"""An HTML page of records: one file that needs no network, and trusts nothing from a record."""
