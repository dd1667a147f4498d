"""Text: where it comes from, how it becomes numbers, and how the numbers are dealt out in batches."""
