"""Who takes part, a file a library. `build(problem)` gives the training step; the rest is what goes before it."""
