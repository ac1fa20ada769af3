"""What all frontends share: builders, shapes that the user gives, and where errors go."""
