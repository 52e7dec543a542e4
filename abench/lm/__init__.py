"""Language models: names, folders, weights, tokens, the residual stream, replies."""
