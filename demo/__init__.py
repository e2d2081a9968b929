"""The whole way on one machine: render or read parts, train, build, fit, stream, report."""
