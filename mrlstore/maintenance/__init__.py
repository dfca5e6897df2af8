"""When and how segments are rewritten, checked, repaired and collected."""
