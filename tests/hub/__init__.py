"""A stand-in for the Hugging Face hub: the real clients talk to it over HTTP, tests own what it serves."""
