"""What the tests in Python share: programs, sockets, raw HTTP, patience. Needs no test framework."""
