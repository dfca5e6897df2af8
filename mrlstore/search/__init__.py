"""From a checked query to hits."""
