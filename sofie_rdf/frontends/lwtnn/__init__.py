"""lwtnn's networks in JSON."""
