"""Whether something trivial tells a set's good pictures from its bad ones."""
