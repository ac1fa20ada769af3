"""What a network is: types, operators, graphs; how they are built, checked, printed, stored."""
