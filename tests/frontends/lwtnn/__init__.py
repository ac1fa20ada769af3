"""lwtnn's networks."""
