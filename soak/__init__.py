"""A fleet of real servers under random faults for as long as is asked for: nothing is lost, and nothing grows."""
