"""What the charts draw: every number and every line of text, ready for charts.js."""
