"""How a planned graph becomes C++: names, exact numbers, the Session, the weight file."""
