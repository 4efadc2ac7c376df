"""What a measurement means: metrics, statistics, gates, verdicts, charts and pages."""
