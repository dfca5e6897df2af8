"""Which access path a search takes through a group of rows, and with how much effort."""
