"""The YAML configurations of models, training presets and runs that come with abench."""
