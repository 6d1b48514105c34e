"""The domain: consent, campaigns, segments, ledger. No HTTP and no SDK in here."""
