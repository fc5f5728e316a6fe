"""Reads saved metrics and says what they show; never runs a model."""
