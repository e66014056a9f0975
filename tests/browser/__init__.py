"""Tests in a real browser, run by name: `pytest tests/browser`."""
