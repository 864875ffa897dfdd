"""What every example here stands on: a place with pods in it, the mesh over them, a report."""
