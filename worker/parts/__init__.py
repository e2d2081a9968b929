"""One result for a part from the results of the frames that its cameras took of it. No I/O."""
