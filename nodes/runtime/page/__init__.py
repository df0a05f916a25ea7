"""What people see of a run: events, routes, reports, pictures."""
