"""In the parent: from a request to cases, from cases to workers, from their answers to lines."""
