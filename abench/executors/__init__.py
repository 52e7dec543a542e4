"""Computing a plan in this process, on several devices of this machine, or on a Ray cluster."""
