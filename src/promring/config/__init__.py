"""From a YAML file to settings."""
