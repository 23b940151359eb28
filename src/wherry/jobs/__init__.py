"""Jobs of every kind: their states, the ledger that owns their rows, the queue, events, rescue and retention."""
