"""What tests and bench start and break: servers, networks, clocks. Not in the wheel."""
