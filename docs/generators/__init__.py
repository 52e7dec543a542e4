"""Parts of the documentation site that are generated from the code, so that they cannot disagree with it."""
