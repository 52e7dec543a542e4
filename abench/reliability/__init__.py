"""How far a metric can be trusted: its noise, and whether it tells better SAEs from worse ones."""
