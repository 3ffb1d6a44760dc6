"""The rows of the report's tables, as texts."""
