"""Jobs of every kind: states, the ledger that writes their rows, the queue, events, rescue and retention."""
