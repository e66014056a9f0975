"""What a person is told: one module computes a report as a dictionary, the next one sets it as text."""
