"""What a write transaction is: a checked batch, and the steps that commit it."""
