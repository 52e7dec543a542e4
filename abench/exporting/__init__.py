"""Results for other tools: sae-bench's result files, sae-lens folders, folders for the hub, a table."""
