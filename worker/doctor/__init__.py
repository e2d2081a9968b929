"""`quarterturn doctor`: can this machine run the line? Each check is one line, with what mends it."""
