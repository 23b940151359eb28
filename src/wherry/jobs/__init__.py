"""Jobs of every kind: their states, the ledger that writes their rows, the queue, events, rescue and retention."""
