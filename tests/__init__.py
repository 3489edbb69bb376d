"""The tests; ``hack/test`` runs them."""
