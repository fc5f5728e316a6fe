"""What stands on every result."""

RESEARCH_USE = "research use only"
