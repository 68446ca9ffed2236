"""Mutation testing of the pure core: what the tests would not notice if it were written otherwise."""
