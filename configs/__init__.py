"""Model and run configurations (YAML) that come with abench."""
