"""Ready recipes, trainings and studies."""
