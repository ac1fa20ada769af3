"""A network that is called with NumPy and awkward arrays."""
