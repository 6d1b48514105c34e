"""Where the ledger, the address book and the working records are kept."""
