"""Training: schedules, the progress line, the log of metrics and its curve."""
